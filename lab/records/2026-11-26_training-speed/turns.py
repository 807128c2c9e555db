#!/usr/bin/env python3
"""Sluice and torch.compile, both running, each a step in turn: what the machine does within a minute falls on both.
Usage: PYTHON turns.py [PAIRS [SHAPE PRECISION FILE]]     PYTHON has torch 2.13.0 (CPU); torch.compile needs g++
Writes FILE (raw/turns.jsonl), a line per shape with every pair's seconds, and prints a table."""
import json, pathlib, statistics as st, subprocess, sys, tempfile

here = pathlib.Path(__file__).resolve().parent
SHAPES = [("384,8,6,2,1024,256,512,16", "bfloat16", 1), ("384,8,6,2,1024,256,512,16", "float32", 1),
          ("768,12,12,4,2048,4096,1024,4", "bfloat16", 1), ("128,4,4,2,384,256,256,16", "bfloat16", 4)]
WARM = 6


def start(command):
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def step(process):
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def measure(shape, precision, pairs, warm):
    with tempfile.TemporaryDirectory() as work:
        peer = start([sys.executable, str(here / "../2026-11-25_training-speed/train_pytorch.py"), "--compile", "--turns", "--shape", shape, "--gate", "elementwise"]
                     + (["--bf16"] if precision == "bfloat16" else []))
        sluice = start([str(here / "../../../sluice"), "bench", "train", "--turns", "--shape", shape, "--precision", precision,
                        "--gate", "sdpa-elementwise", "--json", work + "/bench.json"])
        for _ in range(warm):
            step(peer), step(sluice)
        rows = []
        for i in range(pairs):  # who goes first changes
            if i % 2 == 0:
                a = step(peer); b = step(sluice)
            else:
                b = step(sluice); a = step(peer)
            rows.append((a, b))
        peer.stdin.close(); sluice.stdin.close()
        words = peer.stdout.read().split()
        peer.wait(); sluice.wait()
        bench = json.load(open(work + "/bench.json"))
    return dict(shape=shape, precision=precision, torch_compile_seconds=[a for a, _ in rows], sluice_seconds=[b for _, b in rows],
                torch_peak_gigabytes=float(words[words.index("peak") + 1]), sluice_peak_gigabytes=round(bench["peak_resident_bytes"] / 1024e6, 3))


pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 20
shapes = [s for s in SHAPES if len(sys.argv) < 4 or list(s[:2]) == sys.argv[2:4]]
print("shape | precision | torch.compile tokens/s | sluice tokens/s | ratio, median of pairs (quartiles) | peak GB torch, sluice")
with open(sys.argv[4] if len(sys.argv) > 4 else here / "raw/turns.jsonl", "w") as out:
    for shape, precision, times in shapes:
        r = measure(shape, precision, pairs * times, WARM * times * (5 if times > 1 else 1))
        out.write(json.dumps(r) + "\n"); out.flush()
        *_, t, b = map(int, shape.split(","))
        a, s = st.median(r["torch_compile_seconds"]), st.median(r["sluice_seconds"])
        q = st.quantiles([x / y for x, y in zip(r["torch_compile_seconds"], r["sluice_seconds"])], n=4)
        print(shape, precision, f"{t * b / a:.0f}", f"{t * b / s:.0f}", f"{q[1]:.3f} ({q[0]:.3f}, {q[2]:.3f})",
              f"{r['torch_peak_gigabytes']:.2f}, {r['sluice_peak_gigabytes']:.2f}", sep=" | ", flush=True)
