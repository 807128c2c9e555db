#!/usr/bin/env bash
# Steps while two other processes keep both cores busy: Sluice and torch.compile in turn, as turns.py measures them.
# Usage: busy.sh PYTHON     writes raw/busy.jsonl
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
for _ in 1 2; do sha256sum /dev/zero & done
trap 'kill $(jobs -p)' EXIT
"$1" "$here/turns.py" 8 384,8,6,2,1024,256,512,16 bfloat16 "$here/raw/busy.jsonl"
