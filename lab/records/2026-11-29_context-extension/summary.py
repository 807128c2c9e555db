#!/usr/bin/env python3
"""The numbers of this record. summary.py MODELS_DIRECTORY, as run.sh makes it, prints a line of JSON a model (raw/models.jsonl);
summary.py raw/models.jsonl prints the tables made of these lines."""
import json, math, pathlib, statistics, sys

KINDS = {"as-it-was": "as it was", "linear": "linear*4", "yarn": "yarn*4", "trained-on-512": "trained on, base as it was",
         "base-512": "base 1e6, trained on", "base-yarn": "base 1e6, trained on, yarn*2"}
GATES = {"no_gate": "no gate", "SDPA_elementwise": "SDPA elementwise"}
SEEDS = (1, 2, 3)


def lines(models):
    for at in sorted(models.iterdir()):
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


def tables(file):
    rows = {(r["gate"], r["model"], r["seed"]): r for r in map(json.loads, file.read_text().splitlines())}
    right = [f"{task}_{tokens}" for task in ("needle", "multi") for tokens in (128, 256, 512)]
    compared = {"needle_256": (100, 1), "needle_512": (100, 1), "bits_per_byte_4T": (1, 2)}
    was, linear, yarn, control, base, both = KINDS.values()

    def of(gate, model):
        return [rows[gate, model, seed] for seed in SEEDS]

    def difference(more, less, key):
        """Mean of three seeds and the half-width of the 95 % interval (Student, two degrees of freedom)."""
        scale, digits = compared[key]
        d = [scale * (m[key] - l[key]) for m, l in zip(more, less)]
        return f"{statistics.mean(d):+.{digits}f} ± {4.3027 * statistics.stdev(d) / math.sqrt(3):.{digits}f}"

    print("Answers right, %")
    for model in KINDS.values():
        for gate in GATES:
            cells = [", ".join(f"{round(200 * r[key]) / 2:g}" for r in of(gate, model)) for key in right]  # of 200 questions
            print("| " + " | ".join([model, GATES[gate], *cells]) + " |")
    print("\nBits per byte of texts of 4T")
    for model in KINDS.values():
        cells = [", ".join(f"{r['bits_per_byte_4T']:.2f}" for r in of(gate, model)) for gate in GATES]
        print("| " + " | ".join([model, *cells]) + " |")
    print("\nGate minus no gate")
    for model in KINDS.values():
        cells = [difference(of("SDPA_elementwise", model), of("no_gate", model), key) for key in compared]
        print("| " + " | ".join([model, *cells]) + " |")
    print("\nOne way to change positions minus another: each number without the gate, and with it")
    pairs = [(model, was) for model in KINDS.values() if model != was]
    for more, less in pairs + [(base, control), (both, base), (both, control), (base, yarn), (both, yarn)]:
        cells = [difference(of(gate, more), of(gate, less), key) for key in compared for gate in GATES]
        print("| " + " | ".join([f"{more} **minus** {less}", *cells]) + " |")
    print("\nNats per token: with all keys; more with the last alone; more with the first 4 and the last")
    for at, model in [("T", was)] + [("4T", model) for model in KINDS.values()]:
        for gate in GATES:
            last, first, every = zip(*(r["evicted_" + at].values() for r in of(gate, model)))
            more = [[few - all for few, all in zip(kept, every)] for kept in (last, first)]
            cells = [", ".join(f"{n:.2f}" for n in numbers) for numbers in (every, *more)]
            print("| " + " | ".join([at, model, GATES[gate], *cells]) + " |")


given = pathlib.Path(sys.argv[1])
lines(given) if given.is_dir() else tables(given)
