#!/usr/bin/env bash
# What two cores of this machine do for each other without any exchange: two runs of one rank at the same time, against one alone.
# Usage: control.sh [PAIRS]     needs python3; writes raw/control.jsonl
set -euo pipefail
pairs="${1:-3}"
here="$(cd "$(dirname "$0")" && pwd)"
sluice="$here/../../../sluice"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
train() {
  "$sluice" train --hidden-size 384 --layers 8 --attention-heads 6 --key-value-heads 2 --head-dim 64 --intermediate-size 1024 \
    --sequence-length 512 --gate sdpa-elementwise --threads 1 --held-out-windows 1 --evaluate-every 1000 --save-every 1000 \
    --sample-tokens 0 --steps 14 --batch-size 4 --precision "$1" --output "$2" >/dev/null 2>&1
}
rate() {
  python3 -c "
import json, statistics as st
print(st.median([r['tokens_per_second'] for r in map(json.loads, open('$1/timings.jsonl')) if 'tokens_per_second' in r][4:]))"
}
: >"$here/raw/control.jsonl"
for precision in float32 bfloat16; do
  for i in $(seq "$pairs"); do
    rm -rf "$work"/*
    train $precision "$work/alone"
    train $precision "$work/a" & train $precision "$work/b" & wait
    echo "{\"precision\":\"$precision\",\"alone\":$(rate "$work/alone"),\"together\":[$(rate "$work/a"),$(rate "$work/b")]}" | tee -a "$here/raw/control.jsonl"
  done
done
