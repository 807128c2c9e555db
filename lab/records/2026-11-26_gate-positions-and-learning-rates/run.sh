#!/usr/bin/env bash
# Both studies, as two shards of one thread each side by side. May be stopped and started again: trials that are done stay.
# Usage: lab/records/2026-11-26_gate-positions-and-learning-rates/run.sh     from the repository's root
set -euo pipefail
here="$(dirname "$0")"
mkdir -p runs
[ -d runs/sotu ] || tar xzf lab/data/sotu.tar.gz -C runs
./sluice --version >/dev/null # builds
shard() {
  for study in positions learning-rates; do
    # the first one prepares the text
    [ "$1" = 1 ] || until [ -f "runs/$study/study.toml" ]; do sleep 1; done
    ./sluice study "$here/$study.toml" --shard "$1/2" --threads 1 --output "runs/$study"
  done
}
shard 1 &
shard 2 &
wait
for study in positions learning-rates; do ./sluice study report "runs/$study"; done
