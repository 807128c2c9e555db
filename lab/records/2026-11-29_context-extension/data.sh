#!/bin/bash
# Makes the texts and questions: data.sh DIRECTORY. T is 128 tokens, a start token and 127 characters.
set -e
here="$(cd "$(dirname "$0")" && pwd)"
mkdir -p "$1"
make() { awk -v kind="$1" -v size="$2" -v rows="$3" -v seed="$4" -f "$here/needles.awk"; }
make train 127 60000 1 >"$1/train-127.jsonl"
make train 255 20000 2 >"$1/train-255.jsonl"
make train 127 100 3 >"$1/held-127.jsonl"
make train 511 50 4 >"$1/held-511.jsonl"
for size in 127 255 511; do make needle $size 200 $((10 + size)); done >"$1/needle.jsonl"
for size in 127 255 511; do make multi $size 50 $((11 + size)); done >"$1/multi.jsonl"
