#!/usr/bin/env python3
"""What the rounds of several processes say together. Usage: summary.py raw/gate-768-*.json     (files of `bench train --json`)"""
import json, statistics as st, sys

ratios = {}
for file in sys.argv[1:]:
    arms = json.load(open(file))["arms"]
    for arm in arms[1:]:
        ratios.setdefault(arm["gate"], []).append([b / a for a, b in zip(arms[0]["step_seconds"], arm["step_seconds"])])
for gate, processes in ratios.items():
    rounds = [r for process in processes for r in process]
    error = 1.96 * st.stdev(rounds) / len(rounds) ** 0.5
    print(f"{gate}: {len(rounds)} rounds in {len(processes)} processes: mean {st.mean(rounds):.4f} ± {error:.4f}, median "
          f"{st.median(rounds):.4f}; means of processes", *(f"{st.mean(p):.3f}" for p in processes))
