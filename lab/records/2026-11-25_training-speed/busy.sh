#!/usr/bin/env bash
# Tokens per second of Sluice and of torch.compile on an idle machine and beside one and two processes that never sleep.
# Usage: busy.sh PYTHON     writes raw/busy.txt
set -euo pipefail
python="$1"
here="$(cd "$(dirname "$0")" && pwd)"
sluice="$here/../../../sluice"
shape=128,4,4,2,384,256,256,16
for others in 0 1 2; do
  pids=()
  for _ in $(seq "$others"); do
    while :; do :; done &
    pids+=($!)
  done
  ours="$("$sluice" bench train --shape "$shape" --gate sdpa-elementwise --steps 20 2>/dev/null | awk '/^sdpa/ { print $4 }')"
  theirs="$("$python" "$here/train_pytorch.py" --compile --bf16 --gate elementwise --shape "$shape" --steps 20 2>/dev/null |
    sed -n 's/.*M  \([0-9]*\) tokens.*/\1/p')"
  echo "$others busy processes beside: Sluice $ours tokens/s, torch.compile $theirs tokens/s"
  for pid in "${pids[@]}"; do kill "$pid"; done
done | tee "$here/raw/busy.txt"
