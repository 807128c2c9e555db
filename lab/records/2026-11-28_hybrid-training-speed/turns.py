#!/usr/bin/env python3
"""A hybrid of Gated DeltaNet and attention, 3:1, in Sluice and in PyTorch, both running, each a step in turn.
Usage: PYTHON turns.py [PAIRS [eager|compile]]     PYTHON has torch 2.13.0 (CPU) and transformers 5.18; torch.compile needs g++
Writes raw/turns-MODE.jsonl with every pair's seconds, and prints a line."""
import json, pathlib, statistics as st, subprocess, sys, tempfile

here = pathlib.Path(__file__).resolve().parent
SHAPE = "384,8,6,2,1024,256,2048,4"
WARM = 2


def start(command, place):
    return subprocess.Popen(command, cwd=place, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def step(process):
    process.stdin.write("\n")
    process.stdin.flush()
    return float(process.stdout.readline())


pairs = int(sys.argv[1]) if len(sys.argv) > 1 else 8
mode = sys.argv[2] if len(sys.argv) > 2 else "compile"
with tempfile.TemporaryDirectory() as work:
    peer = start([sys.executable, str(here / "train_pytorch_hybrid.py"), "--bf16", "--turns", "--shape", SHAPE]
                 + (["--compile"] if mode == "compile" else []), work)
    sluice = start([str(here / "../../../sluice"), "bench", "train", "--turns", "--shape", SHAPE, "--precision", "bfloat16",
                    "--layers-pattern", "gdn,gdn,gdn,attention", "--gate", "sdpa-elementwise", "--json", "bench.json"], work)
    for _ in range(WARM):
        step(peer), step(sluice)
    rows = []
    for i in range(pairs):  # who goes first changes
        if i % 2 == 0:
            a = step(peer); b = step(sluice)
        else:
            b = step(sluice); a = step(peer)
        rows.append((a, b))
        print(f"pair {i + 1}: PyTorch {a:.2f} s, Sluice {b:.2f} s", file=sys.stderr, flush=True)
    peer.stdin.close(); sluice.stdin.close()
    words = peer.stdout.read().split()
    peer.wait(); sluice.wait()
    bench = json.load(open(work + "/bench.json"))
record = dict(shape=SHAPE, mode=mode, precision="bfloat16", torch_seconds=[a for a, _ in rows], sluice_seconds=[b for _, b in rows],
              torch_parameters=words[words.index("params") + 1], torch_peak_gigabytes=float(words[words.index("peak") + 1]),
              sluice_peak_gigabytes=round(bench["peak_resident_bytes"] / 1024e6, 3), sluice=bench)
(here / "raw").mkdir(exist_ok=True)
(here / f"raw/turns-{mode}.jsonl").write_text(json.dumps(record) + "\n")
*_, t, b = map(int, SHAPE.split(","))
x, y = st.median(record["torch_seconds"]), st.median(record["sluice_seconds"])
q = st.quantiles([a / b for a, b in rows], n=4)
print(SHAPE, mode, f"PyTorch {t * b / x:.0f} tokens/s", f"Sluice {t * b / y:.0f}", f"ratio {q[1]:.3f} ({q[0]:.3f}, {q[2]:.3f})",
      f"peak GB {record['torch_peak_gigabytes']:.2f}, {record['sluice_peak_gigabytes']:.2f}", sep=" | ", flush=True)
