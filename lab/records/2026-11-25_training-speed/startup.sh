#!/usr/bin/env bash
# Seconds from the command to its help, and to the first training step in metrics.jsonl, on a built tree, five times.
# Usage: startup.sh     writes raw/startup.txt
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
sluice="$here/../../../sluice"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
now() { date +%s.%N; }
since() { awk "BEGIN { printf \"%.2f\", $(now) - $1 }"; }
for i in 1 2 3 4 5; do
  began="$(now)"
  "$sluice" --help >/dev/null
  line="help $(since "$began") s"
  for precision in float32 bfloat16; do
    began="$(now)"
    "$sluice" train --steps 1 --sample-tokens 0 --held-out-windows 1 --precision "$precision" \
      --output "$work/$i-$precision" >/dev/null 2>&1 &
    until [ -s "$work/$i-$precision/metrics.jsonl" ]; do sleep 0.02; done
    line="$line, first step in $precision $(since "$began") s"
    wait
  done
  echo "$line"
done | tee "$here/raw/startup.txt"
