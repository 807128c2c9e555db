#!/usr/bin/env python3
"""The tables of this record, from the raw numbers: summary.py MODELS_DIRECTORY, as run.sh makes it. Prints a line of JSON a model."""
import json, pathlib, sys

KINDS = {"as-it-was": "as it was", "linear": "linear*4", "yarn": "yarn*4", "base-512": "base 1e6, trained on", "base-yarn": "the same, then yarn*2",
         "trained-on-512": "trained on, base as it was"}
for at in sorted(pathlib.Path(sys.argv[1]).iterdir()):
    gate, seed = at.name.rsplit("-seed", 1)
    for name in ("untrained", "base", "trained-on"):
        file = at / (name + ".json")
        if not file.is_file():
            continue
        for model in json.loads(file.read_text())["models"]:
            kind = pathlib.Path(model["checkpoint"]).parent.name
            row = {"gate": gate, "seed": int(seed), "model": KINDS[kind]}
            for task in model["tasks"]:
                if task["name"] == "text":
                    row["bits_per_byte_4T"] = round(task["metrics"]["bits_per_byte"]["value"], 4)
                    continue
                groups = task["metrics"]["acc"]["groups"]
                for tokens in (128, 256, 512):
                    parts = [g["value"] for n, g in groups.items() if n.startswith(f"{tokens} tokens")]
                    row[f"{task['name']}_{tokens}"] = round(sum(parts) / len(parts), 4)
            row["evicted_4T"] = {e["kept"]: round(e["nats"] / e["tokens"], 4) for e in model["evictions"]}
            if kind == "as-it-was":
                short = json.loads((at / "at-128.json").read_text())["models"][0]
                row["evicted_T"] = {e["kept"]: round(e["nats"] / e["tokens"], 4) for e in short["evictions"]}
            print(json.dumps(row))
