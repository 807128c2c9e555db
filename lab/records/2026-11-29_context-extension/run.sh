#!/bin/bash
# All of this record, from the repository's root; what is done is not done again.
# lab/records/2026-11-29_context-extension/run.sh
set -e
here="$(cd "$(dirname "$0")" && pwd)"
runs=runs/extension
[ -f $runs/multi.jsonl ] || "$here/data.sh" $runs
[ -f $runs/twins/report.html ] || ./sluice study "$here/twins.toml" --threads 1 --output $runs/twins

extend() { # MODEL OUTPUT OPTIONS
  [ -d "$2/model" ] || { rm -rf "$2"; ./sluice extend "$1" --output "$2" --threads 1 "${@:3}"; }
}
longer() { # MODEL OUTPUT OPTIONS: trains on at twice the length
  extend "$1" "$2" --data $runs/train-255.jsonl --sequence-length 256 --steps 150 --batch-size 16 --learning-rate 1e-3 \
    --warmup-steps 10 --evaluate-every 150 --save-every 150 --held-out-windows 32 "${@:3}"
}
ask() { # NAME DIRECTORY KINDS: the questions, and the loss of texts of 4T with few keys
  local models=()
  for kind in ${@:3}; do models+=("$2/$kind/model"); done
  [ -f "$2/$1.json" ] ||
    ./sluice evaluate "${models[@]}" --task "$here/needle.toml=$runs/needle.jsonl" --task "$here/multi.toml=$runs/multi.jsonl" \
      --task text=$runs/held-511.jsonl --context 512 --eviction-window 64 --start-token always --threads 1 \
      --output "$2/$1" --json "$2/$1.json"
}
trials=$(ls -d $runs/twins/trials/*)
for trial in $trials; do # no weight changes
  at=$runs/models/$(basename "$trial")
  mkdir -p "$at"
  extend "$trial" "$at/as-it-was" --context 512
  extend "$trial" "$at/linear" --rope-scaling 'linear*4'
  extend "$trial" "$at/yarn" --rope-scaling 'yarn*4'
  ask untrained "$at" as-it-was linear yarn
  [ -f "$at/at-128.json" ] ||
    ./sluice evaluate "$at/as-it-was/model" --task text=$runs/held-127.jsonl --context 128 --eviction-window 32 \
      --start-token always --threads 1 --output "$at/at-128" --json "$at/at-128.json"
done
for trial in $trials; do # a larger base, trained on at 2T, and then YaRN
  at=$runs/models/$(basename "$trial")
  longer "$trial" "$at/base" --rope-theta 1e6
  extend "$at/base/model" "$at/base-512" --context 512
  extend "$at/base/model" "$at/base-yarn" --rope-scaling 'yarn*2'
  ask base "$at" base-512 base-yarn
done
for trial in $trials; do # the control: trained on at 2T with the base as it was
  at=$runs/models/$(basename "$trial")
  longer "$trial" "$at/trained-on" --context 256
  extend "$at/trained-on/model" "$at/trained-on-512" --context 512
  ask trained-on "$at" trained-on-512
done
