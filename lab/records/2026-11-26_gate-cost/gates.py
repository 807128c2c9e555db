#!/usr/bin/env python3
"""The same model without a gate, with an elementwise and with a headwise one, each in a process of its own, all with as many
parameters: a step each in turn, the order turning too. New processes for each launch, as where memory lies differs.
Usage: gates.py LAUNCHES ROUNDS SHAPE FILE [same]     FILE gets a line per launch; a table is printed. With `same` all
three are the ungated model: what is measured then is the error of this way of measuring."""
import json, pathlib, statistics as st, subprocess, sys, tempfile

home = pathlib.Path(__file__).resolve().parents[3]
GATES = ["none", "sdpa-elementwise", "sdpa-headwise"]
WARM = 4
SAME = sys.argv[5:] == ["same"]


def widths(shape):
    """The feed-forward widths that make the gated models as large as the other, in eights."""
    d, _, heads, _, f, *_ = map(int, shape.split(","))
    return {"none": f, "sdpa-elementwise": f - round(d * d / (3 * d) / 8) * 8, "sdpa-headwise": f - round(d * heads / (3 * d) / 8) * 8}


def start(gate, shape, work):
    sizes = shape.split(",")
    gate_made = "none" if SAME else gate
    sizes[4] = str(widths(shape)[gate_made])
    return subprocess.Popen([str(home / "sluice"), "bench", "train", "--turns", "--shape", ",".join(sizes), "--gate", gate_made,
                             "--json", f"{work}/{gate}.json"],
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def step(process):
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


launches, rounds, shape, file = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
times = []
with open(file, "w") as out:
    for launch in range(launches):
        with tempfile.TemporaryDirectory() as work:
            processes = {gate: start(gate, shape, work) for gate in GATES}
            seconds = {gate: [] for gate in GATES}
            for i in range(WARM + rounds):
                turned = GATES[i % 3:] + GATES[:i % 3]
                for gate in turned if i % 2 == 0 else reversed(turned):
                    taken = step(processes[gate])
                    if i >= WARM:
                        seconds[gate].append(taken)
            for p in processes.values():
                p.stdin.close()
                p.stdout.read()
                p.wait()
            peaks = {g: json.load(open(f"{work}/{g}.json"))["peak_resident_bytes"] for g in GATES}
        times.append(seconds)
        out.write(json.dumps(dict(shape=shape, widths=widths(shape), seconds=seconds, peak_resident_bytes=peaks)) + "\n")
        out.flush()
        print("launch", launch + 1, *(f"{g} {st.mean(b / a for a, b in zip(seconds['none'], seconds[g])):.3f}" for g in GATES[1:]), flush=True)
for gate in GATES[1:]:
    ratios = [b / a for s in times for a, b in zip(s["none"], s[gate])]
    error = 1.96 * st.stdev(ratios) / len(ratios) ** 0.5
    means = [st.mean(b / a for a, b in zip(s["none"], s[gate])) for s in times]
    between = f"; means of launches {min(means):.3f} to {max(means):.3f}" if len(means) > 1 else ""
    print(f"{gate}: mean {st.mean(ratios):.3f} ± {error:.3f}, median {st.median(ratios):.3f}, {len(ratios)} rounds{between}")
