#!/usr/bin/env bash
# What docs/gpu-check.sh starts in CardCheckTest: writes what its stages read of Sluice's files. With SPOILED set the device's
# results are wrong in the way that each stage is there to see.
command="$1"
while [ "$#" -gt 0 ]; do
  case "$1" in
    --output) folder="$2" ;;
    --resume) folder="$2" resumed=yes ;;
    --device) device="$2" ;;
    --json) json="$2" ;;
    --shape) shape="$2" ;;
    --max-tokens) tokens="$2" ;;
    --spike-threshold) guarded=yes ;;
  esac
  shift
done
wrong=
[ -n "${SPOILED:-}" ] && [ "${device:-cuda}" != cpu ] && wrong=yes

case "$command" in
  train)
    mkdir -p "$folder/checkpoints/step-00000010" "$folder/checkpoints/step-00000020"
    : >"$folder/checkpoints/step-00000020/model.safetensors"
    for step in {1..20}; do
      loss=4.5
      [ "$wrong$step" = yes7 ] && loss=4.6
      [ "$wrong$step${resumed:-}" = yes13yes ] && loss=NaN
      echo '{"step":'"$step"',"gradient_norm":1.5,"loss":'"$loss"'}'
    done >"$folder/metrics.jsonl"
    if [ -n "${guarded:-}" ]; then
      step=18
      [ -n "$wrong" ] && step=19
      echo '{"step":'"$step"',"action":"skip","cause":"the loss is high","loss":5.0}' >"$folder/events.jsonl"
    fi
    ;;
  bench)
    peak=1000000
    where=cuda:0
    if [ -n "$wrong" ]; then
      length="${shape%,*}"
      peak="$((${length##*,} * 1000))"
      [ "${shape%%,*}" = 128 ] && where=cpu # of the stage `there`
    fi
    printf '{\n  "device" : "%s",\n  "tokens_per_second" : 1e3,\n  "loss" : 5.5,\n  "peak_device_bytes" : %s\n}\n' \
      "$where" "$peak" >"$json"
    ;;
  generate)
    rate=50.5
    [ -n "$wrong" ] && rate=0.0
    for ((token = 0; token < tokens; token++)); do
      id=65
      [ "$wrong$token" = yes31 ] && id=7
      echo '  "id" : '"$id"
    done >"$json"
    echo '  "tokens_per_second" : '"$rate" >>"$json"
    ;;
  inspect)
    mkdir -p "$folder"
    nats=4.25
    [ -n "$wrong" ] && nats=4.26
    echo '  "nats" : '"$nats" >"$folder/inspect.json"
    ;;
  study)
    mkdir -p "$folder/1" "$folder/2" "$folder/3" "$folder/4"
    : >"$folder/report.html"
    for trial in 1 2 3 4; do
      [ -n "$wrong" ] && [ "$trial" = 4 ] || : >"$folder/$trial/trial.json"
    done
    ;;
  *) [ -z "$wrong" ] ;;
esac
