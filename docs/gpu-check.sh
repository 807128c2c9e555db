#!/usr/bin/env bash
# Checks Sluice on a card, stage by stage; docs/gpu.md says what each is for.
#
#   docs/gpu-check.sh                      all stages, in order
#   docs/gpu-check.sh there parity         some
#   DEVICE=cpu docs/gpu-check.sh           the same in small, as a test of this script
#
# SLUICE   how Sluice is started; ./sluice of this repository unless set
# DEVICE   cuda, cuda:INDEX or cpu; cuda unless set
# OUT      where runs and numbers go; a new folder below runs unless set
# MAVEN    how Maven is started, for the stages kernels and nccl, which run tests; mvn -B -q unless set
#
# A stage ends with a line `STAGE: passed` and its numbers, or `STAGE: failed` and why. The exit code is 1 if one failed.
set -uo pipefail
cd "$(dirname "$(readlink -f "$0")")/.."
sluice="${SLUICE:-./sluice}"
device="${DEVICE:-cuda}"
maven="${MAVEN:-mvn -B -q}"
out="${OUT:-runs/gpu-check-$(date +%Y%m%d-%H%M%S)}"
mkdir -p "$out" || exit 1
stages=(there parity train resume guard checkpoints study inspect generate bench kernels memory decode nccl)

if [ "$device" = cpu ]; then # small
  profile=
  shapes=(64,2,4,2,128,256,128,4)
  lengths=(64,8 128,4 256,2)
  timing=(--warm-up 0 --steps 3)
else
  profile=-Pcuda
  shapes=(768,12,12,4,2048,4096,1024,16 2048,2,16,8,6144,4096,4096,4)
  lengths=(1024,16 2048,8 4096,4 8192,2 16384,1)
  timing=(--warm-up 4 --steps 10)
fi
model=(--layers 2 --hidden-size 64 --intermediate-size 128 --attention-heads 4 --key-value-heads 2 --head-dim 16
  --sequence-length 128 --batch-size 4 --evaluate-every 10 --held-out-windows 4 --sample-tokens 0)

# ---------------------------------------------------------------- what stages use

fail() { # why
  echo "$*" >&2
  return 1
}

run() { # name, words: runs Sluice; on failure its last lines are the reason
  local log="$out/$1.log"
  shift
  # shellcheck disable=SC2086
  $sluice "$@" >"$log" 2>&1 || {
    fail "$sluice $* ended with $? ($log): $(tail -n 2 "$log" | tr '\n' ' ')"
    return 1
  }
}

numbers() { # file, field: a number of each line of JSON that has it
  sed -n 's/.*"'"$2"'" *: *\(-\{0,1\}[0-9][-+0-9.eE]*\).*/\1/p' "$1"
}

apart() { # two files of numbers: their largest difference, or nothing if they are not as many
  paste -d ' ' "$1" "$2" | awk '
    NF != 2 { bad = 1 }
    { d = $1 - $2; if (d < 0) d = -d; if (!(d <= most)) most = d }
    END { if (NR && !bad) printf "%.1e\n", most }'
}

within() { # number, limit
  [ -n "$1" ] && awk -v a="$1" -v b="$2" 'BEGIN { exit !(a + 0 <= b + 0) }'
}

train() { # name, words: a training of 20 steps
  local name="$1"
  shift
  rm -rf "${out:?}/$name"
  run "$name" train --output "$out/$name" --steps 20 --save-every 10 "${model[@]}" "$@"
}

losses() { # run: its losses, in a file
  numbers "$out/$1/metrics.jsonl" loss >"$out/$1.losses"
  [ -s "$out/$1.losses" ] || fail "$out/$1/metrics.jsonl has no losses"
}

trained() { # a run that stages after `train` use
  [ -d "$out/trained/checkpoints" ] || train trained --device "$device" --gate sdpa-elementwise
}

tests() { # names of test classes, with Maven
  command -v "${maven%% *}" >/dev/null || fail "there is no Maven to run $1" || return 1
  # shellcheck disable=SC2086
  $maven $profile test -Dsluice.test.device="$device" -Dtest="$1" >"$out/tests.log" 2>&1 ||
    fail "$maven test -Dtest=$1 failed ($out/tests.log): $(grep -m 2 -E 'ERROR|FAIL' "$out/tests.log" | tr '\n' ' ')"
}

bench() { # name, words: a measurement; its numbers are in a file
  local name="$1"
  shift
  run "$name" bench train --device "$device" --json "$out/$name.json" "$@"
}

# ---------------------------------------------------------------- stages: what they print is their numbers

stage_there() {
  bench there --shape 128,2,2,1,256,256,128,4 --warm-up 0 --steps 3 || return 1
  grep -q "\"device\" *: *\"${device%%:*}" "$out/there.json" || fail "it ran on another device" || return 1
  echo "$(numbers "$out/there.json" tokens_per_second | head -n 1) tokens/s"
}

stage_parity() {
  local folders=()
  for folder in src/test/resources/golden/*/; do
    [ -f "$folder/golden.safetensors" ] && folders+=("$folder")
  done
  [ "${#folders[@]}" -gt 0 ] || fail "there are no checkpoints with answers" || return 1
  run parity parity "${folders[@]}" --device "$device" || return 1
  echo "${#folders[@]} checkpoints, see $out/parity.log"
}

stage_train() {
  local said=() difference limit
  for precision in float32 bfloat16; do
    limit=0.002
    [ "$precision" = bfloat16 ] && limit=0.02
    for kind in "plain" "window --layers-pattern sliding --sliding-window 64" "documents --document-mask true" \
      "sinks --softmax-sink learned" "delta --layers-pattern gdn,attention"; do
      read -r name flags <<<"$kind"
      for where in cpu "$device"; do
        # shellcheck disable=SC2086
        train "$name-$precision-${where/:/-}" --device "$where" --precision "$precision" --gate sdpa-elementwise $flags || return 1
        losses "$name-$precision-${where/:/-}" || return 1
      done
      difference="$(apart "$out/$name-$precision-cpu.losses" "$out/$name-$precision-${device/:/-}.losses")"
      within "$difference" "$limit" ||
        fail "$name in $precision: losses of 20 steps differ by ${difference:-who knows what}, more than $limit" || return 1
      said+=("$name $precision $difference")
    done
  done
  (IFS=', '; echo "largest differences of losses: ${said[*]}")
}

stage_resume() { # 20 steps at once, and again from the checkpoint of the first 10
  local bits difference weights
  train whole --device "$device" --gate sdpa-elementwise || return 1
  rm -rf "$out/parts"
  cp -r "$out/whole" "$out/parts" || return 1
  run parts train --resume "$out/parts" --checkpoint step-00000010 || return 1
  losses whole && losses parts || return 1
  difference="$(apart "$out/whole.losses" "$out/parts.losses")"
  within "$difference" 0.002 || fail "losses differ by ${difference:-who knows what}" || return 1
  bits="not the same bits"
  weights=checkpoints/step-00000020/model.safetensors
  cmp -s "$out/whole/$weights" "$out/parts/$weights" && cmp -s "$out/whole.losses" "$out/parts.losses" && bits="the same bits"
  [ "$device" != cpu ] || [ "$bits" = "the same bits" ] || fail "on the CPU weights or losses are not the same bits" || return 1
  echo "losses differ by $difference; weights and losses have $bits"
}

stage_guard() { # the lowest threshold, which ordinary steps pass once 16 are there to compare with
  rm -rf "$out/guard"
  run guard train --output "$out/guard" --steps 60 --save-every 60 "${model[@]}" --device "$device" --gate none \
    --learning-rate 1e-6 --spike-threshold 1 --spike-window 16 --max-skips 0 || return 1
  [ -s "$out/guard/events.jsonl" ] || fail "no step was passed over" || return 1
  echo "$(wc -l <"$out/guard/events.jsonl") steps passed over"
}

stage_checkpoints() {
  trained && run verify verify "$out/trained" || return 1
  (cd "$out/trained/checkpoints/step-00000020" && sha256sum -c --quiet SHA256SUMS) || fail "checksums do not hold" || return 1
  echo "$(find "$out/trained/checkpoints" -maxdepth 1 -name 'step-*' | wc -l) checkpoints, as they were written"
}

stage_study() {
  rm -rf "$out/study"
  run study study --output "$out/study" --device "$device" --seeds 2 --steps 10 --evaluate-every 10 --save-every 10 || return 1
  [ -f "$out/study/report.html" ] || fail "there is no report" || return 1
  echo "2 variants of 2 seeds"
}

stage_inspect() {
  trained && run inspect inspect "$out/trained" --device "$device" --windows 2 --output "$out/inspect" || return 1
  echo "see $out/inspect"
}

stage_generate() { # the same text as on the CPU
  trained || return 1
  for where in cpu "$device"; do
    run "text-${where/:/-}" generate "$out/trained" --device "$where" --prompt "The whale" --max-tokens 40 --temperature 0 || return 1
  done
  cmp -s "$out/text-cpu.log" "$out/text-${device/:/-}.log" || fail "the likeliest 40 tokens are others than on the CPU" || return 1
  echo "40 tokens, those of the CPU"
}

stage_bench() {
  local said=() number=0
  for shape in "${shapes[@]}"; do
    number=$((number + 1))
    bench "bench-$number" --shape "$shape" --gate none,sdpa-headwise,sdpa-elementwise --profile "${timing[@]}" || return 1
    said+=("$shape: $(numbers "$out/bench-$number.json" tokens_per_second | awk '{ printf "%s%.0f", s, $1; s = " " }') tokens/s")
  done
  (IFS=';'; echo "without a gate, headwise, elementwise: ${said[*]}; see $out/bench-*.log")
}

stage_kernels() { # our own, each family alone and all together; the loss must stay what it is
  local said=() pattern rate loss expected
  tests 'Cuda*Test,KernelSourcesTest,DriverTest' || return 1
  for family in none gate norm heads swiglu loss optimizer delta all; do
    pattern=attention
    [ "$family" = delta ] && pattern=gdn,gdn,gdn,attention
    for kernels in none "$family"; do
      (
        unset SLUICE_CUDA_KERNELS
        [ "$kernels" = none ] || export SLUICE_CUDA_KERNELS="$kernels"
        bench "kernels-$family-$kernels" --shape "${shapes[0]}" --layers-pattern "$pattern" "${timing[@]}"
      ) || return 1
      [ "$family" = none ] && break
    done
    rate="$(numbers "$out/kernels-$family-$family.json" tokens_per_second)"
    loss="$(numbers "$out/kernels-$family-$family.json" loss)"
    expected="$(numbers "$out/kernels-$family-none.json" loss)"
    within "$(awk -v a="$loss" -v b="$expected" 'BEGIN { d = a - b; print d < 0 ? -d : d }')" 0.02 ||
      fail "with $family the loss is $loss and not $expected" || return 1
    said+=("$family $(awk -v a="$rate" -v b="$(numbers "$out/kernels-$family-none.json" tokens_per_second)" 'BEGIN { printf "%.3f", a / b }')")
  done
  (IFS=','; echo "tokens/s against libtorch's operations: ${said[*]}")
}

stage_memory() { # as many tokens in longer and longer rows must not take more than half as much again
  local field=peak_device_bytes said=() first last sizes
  [ "$device" = cpu ] && field=peak_resident_bytes
  for again in none blocks; do
    first=
    for length in "${lengths[@]}"; do
      sizes="$(cut -d, -f1-6 <<<"${shapes[0]}")"
      bench "memory-$again-${length/,/-}" --shape "$sizes,$length" --recompute "$again" --warm-up 0 --steps 2 || return 1
      last="$(numbers "$out/memory-$again-${length/,/-}.json" "$field")"
      [ -n "$last" ] || fail "there is no $field in $out/memory-$again-${length/,/-}.json" || return 1
      first="${first:-$last}"
    done
    within "$last" "$(awk -v a="$first" 'BEGIN { print 1.5 * a }')" ||
      fail "recompute $again: $first bytes for the shortest rows, $last for the longest" || return 1
    said+=("recompute $again $(awk -v a="$first" -v b="$last" 'BEGIN { printf "%.0f to %.0f MB", a / 1e6, b / 1e6 }')")
  done
  (IFS=','; echo "${said[*]}")
}

stage_decode() {
  local began took
  trained || return 1
  began="$(date +%s%N)"
  run decode-1 generate "$out/trained" --device "$device" --prompt "The whale" --max-tokens 1 --temperature 0 || return 1
  took=$(($(date +%s%N) - began))
  began="$(date +%s%N)"
  run decode-101 generate "$out/trained" --device "$device" --prompt "The whale" --max-tokens 101 --temperature 0 || return 1
  took=$(($(date +%s%N) - began - took))
  echo "$(awk -v t="$took" 'BEGIN { printf "%.2f", t / 1e8 }') ms a token of a model of two layers"
}

stage_nccl() { # one rank
  tests ProcessGroupTest || return 1
  echo "one rank"
}

# ---------------------------------------------------------------- run them

failed=0
for stage in "${@:-${stages[@]}}"; do
  if ! declare -F "stage_$stage" >/dev/null; then
    echo "gpu-check: there is no stage '$stage'; there are: ${stages[*]}" >&2
    exit 2
  fi
  if said="$("stage_$stage" 2>"$out/$stage.why")"; then
    echo "$stage: passed${said:+ ($said)}"
  else
    echo "$stage: failed: $(tr '\n' ' ' <"$out/$stage.why")"
    failed=1
  fi
done
exit "$failed"
