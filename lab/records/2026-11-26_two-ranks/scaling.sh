#!/usr/bin/env bash
# Weak scaling: two ranks with one thread and four sequences each, against one rank with one thread and four sequences, in turn;
# then what a rank of two holds with --zero 0, 1, 2. Usage: scaling.sh [PAIRS]     needs python3; writes raw/
set -euo pipefail
pairs="${1:-7}"
here="$(cd "$(dirname "$0")" && pwd)"
sluice="$here/../../../sluice"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
common=(--hidden-size 384 --layers 8 --attention-heads 6 --key-value-heads 2 --head-dim 64 --intermediate-size 1024
  --sequence-length 512 --gate sdpa-elementwise --threads 1 --held-out-windows 1 --evaluate-every 1000 --save-every 1000 --sample-tokens 0)
rate() { # median tokens/s of all steps but the first four
  python3 -c "
import json, statistics as st
print(st.median([r['tokens_per_second'] for r in map(json.loads, open('$1/timings.jsonl')) if 'tokens_per_second' in r][4:]))"
}
: >"$here/raw/pairs.jsonl"
for precision in float32 bfloat16; do
  for i in $(seq "$pairs"); do
    rm -rf "$work"/*
    "$sluice" train "${common[@]}" --precision $precision --steps 14 --batch-size 4 --output "$work/one" >/dev/null 2>&1
    "$sluice" train "${common[@]}" --precision $precision --steps 14 --batch-size 8 --nproc 2 --output "$work/two" >/dev/null 2>&1
    echo "{\"precision\":\"$precision\",\"one\":$(rate "$work/one"),\"two\":$(rate "$work/two")}" | tee -a "$here/raw/pairs.jsonl"
  done
done
: >"$here/raw/memory.txt"
for zero in 0 1 2; do
  rm -rf "$work"/*
  "$sluice" train --hidden-size 768 --layers 12 --attention-heads 12 --key-value-heads 4 --head-dim 64 --intermediate-size 2048 \
    --vocab-size 4096 --sequence-length 128 --batch-size 2 --gate sdpa-elementwise --threads 1 --held-out-windows 1 --steps 4 \
    --evaluate-every 1000 --save-every 1000 --sample-tokens 0 --nproc 2 --zero $zero --output "$work/run" 2>&1 | grep "ranks, zero" >>"$here/raw/memory.txt"
  python3 -c "
import json
print('  resident after step 3, MB:', max(r['resident_bytes'] for r in map(json.loads, open('$work/run/timings.jsonl')) if r.get('step') == 3 and 'resident_bytes' in r) // 10**6)" >>"$here/raw/memory.txt"
done
cat "$here/raw/memory.txt"
