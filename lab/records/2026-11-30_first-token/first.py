"""Time from a command's start to the first byte behind its prompt, in turn.

python first.py ROUNDS MODEL NAME=PATH_OF_LAUNCHER ...
"""
import os, statistics, subprocess, sys, time

PROMPT = "Once upon a time"


def run(launcher, model):
    start = time.time()
    process = subprocess.Popen(
        [launcher, "generate", model, "--prompt", PROMPT, "--max-tokens", "16"],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    first, out = None, b""
    while block := os.read(process.stdout.fileno(), 4096):
        out += block
        if first is None and len(out) > len(PROMPT):
            first = time.time() - start
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        sys.exit(out.decode())
    return first, time.time() - start, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024 / 1e6


rounds, model, launchers = int(sys.argv[1]), sys.argv[2], [a.split("=", 1) for a in sys.argv[3:]]
results = {name: [] for name, _ in launchers}
for _ in range(rounds):
    for name, launcher in launchers:
        results[name].append(run(launcher, model))
for name, of in results.items():
    print("%s %s: first %s, median %.2f s; end %.2f s, processor %.2f s, resident %.0f MB (file %.0f)" % (
        os.path.basename(model), name, " ".join("%.2f" % r[0] for r in of),
        *(statistics.median(r[i] for r in of) for i in range(4)), os.path.getsize(model) / 1e6))
