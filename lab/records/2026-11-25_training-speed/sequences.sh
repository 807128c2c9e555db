#!/usr/bin/env bash
# Time and memory of a training step of 8192 tokens cut into sequences of 256 … 8192, and peak memory of measuring sinks on
# one such sequence. Usage: sequences.sh     needs GNU time; writes raw/sequences.jsonl and raw/sinks.txt
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
sluice="$here/../../../sluice"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
: >"$here/raw/sequences.jsonl"
for tokens in 256 512 1024 2048 4096 8192; do
  (cd "$work" && "$sluice" bench train --shape "384,8,6,2,1024,256,$tokens,$((8192 / tokens))" --steps 4 --json bench.json)
  tr -d '\n' <"$work/bench.json" | sed 's/  */ /g' >>"$here/raw/sequences.jsonl"
  echo >>"$here/raw/sequences.jsonl"
done
"$sluice" train --model small --sequence-length 64 --batch-size 1 --steps 1 --held-out-windows 1 --sample-tokens 0 \
  --output "$work/run" >/dev/null 2>&1
for tokens in 256 512 1024 2048 4096 8192; do
  /usr/bin/time -f "$tokens tokens: %M kB peak, %e s" -o "$work/time" \
    "$sluice" inspect "$work/run" --data moby-dick --windows 1 --tokens "$tokens" --output "$work/inspect" >/dev/null 2>&1
  tail -1 "$work/time"
done | tee "$here/raw/sinks.txt"
