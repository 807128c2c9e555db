#!/usr/bin/env bash
# Checks Sluice on a card, stage by stage; docs/gpu.md says what each is for.
#
#   docs/gpu-check.sh                      all stages, in order
#   docs/gpu-check.sh there parity         some
#   DEVICE=cpu docs/gpu-check.sh           the same in small, as a test of this script
#
# SLUICE   how Sluice is started from the folder of this repository; ./sluice unless set
# DEVICE   cuda, cuda:INDEX or cpu; cuda unless set
# OUT      where runs and numbers go: a folder that is new, empty or of an earlier check, which stages after `train` go on with;
#          a new one below runs unless set
# MAVEN    how Maven is started, for the stages kernels and nccl, which run tests; mvn -B -q unless set
#
# A stage ends with a line that says passed or failed and gives its numbers, which OUT/results.txt keeps.
# The exit code is 0 if all passed, 1 if one failed, 2 if nothing was tried, 130 after Ctrl-C.
set -uo pipefail
stages=(there parity train resume guard checkpoints study inspect generate bench kernels memory decode nccl)

refuse() { # why
  echo "gpu-check: $*" >&2
  exit 2
}

for stage in "$@"; do
  case "$stage" in
    -h | --help)
      sed -n '2,/^set /s/^# \{0,1\}//p' "$0" >&2
      exit 2
      ;;
  esac
  [[ " ${stages[*]} " == *" $stage "* ]] || refuse "there is no stage '$stage'; there are: ${stages[*]}"
done

device="${DEVICE:-cuda}"
[[ "$device" =~ ^(cpu|cuda(:[0-9]+)?)$ ]] || refuse "DEVICE is cuda, cuda:INDEX or cpu, not '$device'"
out="${OUT:-}"
[[ -z "$out" || "$out" == /* ]] || out="$PWD/$out"
cd "$(dirname "$(readlink -f "$0")")/.." || exit 2
out="${out:-$PWD/runs/gpu-check-$(date +%Y%m%d-%H%M%S)}"
mkdir -p "$out" || refuse "OUT '$out' cannot be made"
[ -f "$out/results.txt" ] || [ -z "$(ls -A "$out")" ] ||
  refuse "OUT '$out' holds other things and no results.txt of an earlier check; name a new folder, as runs in it are replaced"
touch "$out/results.txt" || refuse "OUT '$out' cannot be written"
if [ -x "${SLUICE:-./sluice}" ]; then sluice=("${SLUICE:-./sluice}"); else read -ra sluice <<<"$SLUICE"; fi
read -ra maven <<<"${MAVEN:-mvn -B -q}"

if [ "$device" = cpu ]; then # small
  shapes=(64,2,4,2,128,256,128,4)
  lengths=(64,8 128,4 256,2)
  timing=(--warm-up 0 --steps 3)
else
  maven+=(-Pcuda)
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
  "${sluice[@]}" "$@" >"$log" 2>&1 ||
    fail "sluice $1 ended with $? ($log): $(tail -n 2 "$log" | tr '\n' ' ')"
}

awk() { # with a point in numbers
  LC_ALL=C command awk "$@"
}

joined() { # between, words
  local between="$1" all="$2"
  shift 2
  for word in "$@"; do all+="$between$word"; done
  echo "$all"
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
  [ "$(wc -l <"$out/$1.losses")" = 20 ] ||
    fail "$out/$1/metrics.jsonl has $(wc -l <"$out/$1.losses") finite losses of 20 steps"
}

trained() { # a run that stages after `train` use
  [ -d "$out/trained/checkpoints/step-00000020" ] || train trained --device "$device" --gate sdpa-elementwise
}

tests() { # names of test classes, with Maven: how many ran
  local reports count skipped
  command -v "${maven[0]}" >/dev/null || fail "there is no ${maven[0]} to run $1; set MAVEN" || return 1
  touch "$out/tests.began"
  "${maven[@]}" test -Dsluice.test.device="$device" -Dtest="$1" >"$out/tests.log" 2>&1 ||
    fail "${maven[*]} test -Dtest=$1 failed ($out/tests.log): $(grep -m 2 -E 'ERROR|FAIL' "$out/tests.log" | tr '\n' ' ')" || return 1
  reports="$(find target/surefire-reports -name 'TEST-*.xml' -newer "$out/tests.began" -exec cat {} +)"
  count="$(sed -n 's/.*<testsuite .* tests="\([0-9]*\)".*/\1/p' <<<"$reports" | awk '{ n += $1 } END { print n + 0 }')"
  skipped="$(grep -c '<skipped' <<<"$reports")"
  [ "$count" -gt "$skipped" ] || fail "no test of $1 ran: $count were found and $skipped skipped" || return 1
  echo "$((count - skipped)) tests of $1 passed, $skipped were skipped$(sed -n 's/.*<skipped message="\([^"]*\)".*/\1/p' <<<"$reports" |
    sed 's/.*AssumptionFailedException: //; s/^Assumption failed: //' | sort -u | awk '{ printf "%s%s", NR == 1 ? " (" : "; ", $0 } END { if (NR) printf ")" }')"
}

bench() { # name, words: a measurement on the device; its numbers are in a file
  local name="$1"
  shift
  rm -f "$out/$name.json"
  run "$name" bench train --device "$device" --json "$out/$name.json" "$@" || return 1
  grep -q "\"device\" *: *\"${device%%:*}" "$out/$name.json" || fail "$out/$name.json is not of $device"
}

generate() { # name, device, tokens: the likeliest; their numbers are in a file
  rm -f "$out/$1.json"
  run "$1" generate "$out/trained" --device "$2" --prompt "The whale" --max-tokens "$3" --temperature 0 --json "$out/$1.json" || return 1
  numbers "$out/$1.json" id >"$out/$1.ids"
  [ "$(wc -l <"$out/$1.ids")" = "$3" ] || fail "$(wc -l <"$out/$1.ids") tokens were written on $2 and not $3 ($out/$1.json)"
}

# ---------------------------------------------------------------- stages: what they print is their numbers

stage_there() {
  local loss
  bench there --shape 128,2,2,1,256,256,128,4 --warm-up 0 --steps 3 || return 1
  loss="$(numbers "$out/there.json" loss)"
  [ -n "$loss" ] || fail "the loss of three steps is no number ($out/there.json)" || return 1
  awk -v d="$device" -v l="$loss" -v r="$(numbers "$out/there.json" tokens_per_second)" \
    'BEGIN { printf "three steps on %s at %.0f tokens/s, loss %.3f\n", d, r, l }'
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
      for side in expected found; do
        where=cpu
        [ "$side" = found ] && where="$device"
        # shellcheck disable=SC2086
        train "$name-$precision-$side" --device "$where" --precision "$precision" --gate sdpa-elementwise $flags || return 1
        losses "$name-$precision-$side" || return 1
      done
      difference="$(apart "$out/$name-$precision-expected.losses" "$out/$name-$precision-found.losses")"
      within "$difference" "$limit" ||
        fail "$name in $precision: losses of 20 steps differ from the CPU's by ${difference:-who knows what}, more than $limit" || return 1
      said+=("$name $precision $difference")
    done
  done
  echo "losses of 20 steps differ from the CPU's by at most: $(joined ', ' "${said[@]}")"
}

stage_resume() { # 20 steps at once, and again from the checkpoint of the first 10
  local bits difference weights=checkpoints/step-00000020/model.safetensors
  train whole --device "$device" --gate sdpa-elementwise || return 1
  rm -rf "$out/parts"
  cp -r "$out/whole" "$out/parts" && rm -r "$out/parts/checkpoints/step-00000020" || return 1
  run parts train --resume "$out/parts" --checkpoint step-00000010 || return 1
  [ -f "$out/parts/$weights" ] || fail "resuming made no $out/parts/$weights" || return 1
  losses whole && losses parts || return 1
  difference="$(apart "$out/whole.losses" "$out/parts.losses")"
  within "$difference" 0.002 || fail "losses differ by ${difference:-who knows what}, more than 0.002" || return 1
  bits="not the same bits"
  cmp -s "$out/whole/$weights" "$out/parts/$weights" && cmp -s "$out/whole.losses" "$out/parts.losses" && bits="the same bits"
  [ "$device" != cpu ] || [ "$bits" = "the same bits" ] || fail "on the CPU weights or losses are not the same bits" || return 1
  echo "losses of 20 steps and of 10 and 10 differ by $difference; weights and losses have $bits"
}

stage_guard() { # the lowest threshold, which ordinary steps pass once 16 are there to compare with: the same steps as on the CPU
  local side where
  for side in expected found; do
    where=cpu
    [ "$side" = found ] && where="$device"
    rm -rf "$out/guard-$side"
    run "guard-$side" train --output "$out/guard-$side" --steps 60 --save-every 60 "${model[@]}" --device "$where" --gate none \
      --learning-rate 1e-6 --spike-threshold 1 --spike-window 16 --max-skips 60 || return 1
    [ -s "$out/guard-$side/events.jsonl" ] || fail "on $where no step of 60 was passed over" || return 1
    numbers "$out/guard-$side/events.jsonl" step >"$out/guard-$side.steps"
  done
  cmp -s "$out/guard-expected.steps" "$out/guard-found.steps" ||
    fail "other steps were passed over than on the CPU: $(joined ', ' $(<"$out/guard-found.steps")), and there $(joined ', ' $(<"$out/guard-expected.steps"))" || return 1
  echo "of 60 steps $(wc -l <"$out/guard-found.steps") were passed over, the same as on the CPU"
}

stage_checkpoints() { # and one whose bytes were changed is refused
  local count weights=checkpoints/step-00000020/model.safetensors
  trained && run verify verify "$out/trained" || return 1
  (cd "$out/trained/checkpoints/step-00000020" && sha256sum -c --quiet SHA256SUMS) || fail "checksums do not hold" || return 1
  count="$(find "$out/trained/checkpoints" -maxdepth 1 -name 'step-*' | wc -l)"
  [ "$count" = 2 ] || fail "there are $count checkpoints of 20 steps and not 2" || return 1
  rm -rf "$out/changed"
  cp -r "$out/trained" "$out/changed" && printf card | dd of="$out/changed/$weights" bs=1 seek=5000 conv=notrunc status=none || return 1
  ! run changed verify "$out/changed" 2>/dev/null || fail "verify takes $out/changed/$weights, where 4 bytes were changed" || return 1
  echo "$count checkpoints are as they were written, and one with 4 bytes changed is refused"
}

stage_study() {
  local trials
  rm -rf "$out/study"
  run study study --output "$out/study" --device "$device" --seeds 2 --steps 10 --save-every 10 "${model[@]}" || return 1
  [ -f "$out/study/report.html" ] || fail "there is no $out/study/report.html" || return 1
  trials="$(find "$out/study" -name trial.json | wc -l)"
  [ "$trials" = 4 ] || fail "there are $trials trials in $out/study and not 4" || return 1
  echo "2 variants of 2 seeds are $trials trials, reported in $out/study/report.html"
}

stage_inspect() { # the same loss as on the CPU
  local side where difference
  trained || return 1
  for side in expected found; do
    where=cpu
    [ "$side" = found ] && where="$device"
    rm -rf "$out/inspect-$side"
    run "inspect-$side" inspect "$out/trained" --device "$where" --windows 2 --output "$out/inspect-$side" || return 1
    numbers "$out/inspect-$side/inspect.json" nats >"$out/inspect-$side.nats"
  done
  difference="$(apart "$out/inspect-expected.nats" "$out/inspect-found.nats")"
  within "$difference" 0.002 ||
    fail "the loss of two windows differs from the CPU's by ${difference:-who knows what}, more than 0.002" || return 1
  echo "the loss of two windows is $(head -n 1 "$out/inspect-found.nats") and differs from the CPU's by $difference; see $out/inspect-found"
}

stage_generate() { # the same text as on the CPU
  local same
  trained && generate expected cpu 40 && generate found "$device" 40 || return 1
  same="$(paste "$out/expected.ids" "$out/found.ids" | awk '$1 != $2 { exit } { n++ } END { print n + 0 }')"
  [ "$same" = 40 ] || fail "the likeliest 40 tokens are the CPU's up to token $same only" || return 1
  echo "the likeliest 40 tokens are the CPU's"
}

stage_bench() {
  local said=() number=0 rates
  for shape in "${shapes[@]}"; do
    number=$((number + 1))
    bench "bench-$number" --shape "$shape" --gate none,sdpa-headwise,sdpa-elementwise --profile "${timing[@]}" || return 1
    mapfile -t rates < <(numbers "$out/bench-$number.json" tokens_per_second | awk '{ printf "%.0f\n", $1 }')
    [ "${#rates[@]}" = 3 ] || fail "$out/bench-$number.json has ${#rates[@]} speeds and not 3" || return 1
    said+=("$shape $(joined ', ' "${rates[@]}")")
  done
  echo "tokens/s without a gate, headwise and elementwise: $(joined '; ' "${said[@]}"); see $out/bench-*.log"
}

stage_kernels() { # our own, each family alone and all together; the loss must stay what it is
  local said=() pattern rate loss expected ran
  ran="$(tests 'Cuda*Test,KernelSourcesTest,DriverTest')" || return 1
  [ "$device" = cpu ] && echo "$ran; the kernels are timed on a card only" && return
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
    [ -n "$loss" ] && [ -n "$expected" ] &&
      within "$(awk -v a="$loss" -v b="$expected" 'BEGIN { d = a - b; print d < 0 ? -d : d }')" 0.02 ||
      fail "with $family the loss is ${loss:-no number} and not ${expected:-a number either}" || return 1
    said+=("$family $(awk -v a="$rate" -v b="$(numbers "$out/kernels-$family-none.json" tokens_per_second)" 'BEGIN { printf "%.3f", a / b }')")
  done
  echo "$ran; speed against libtorch's operations: $(joined ', ' "${said[@]}")"
}

stage_memory() { # as many tokens in longer and longer rows must not take more than half as much again
  local field=peak_device_bytes said=() first last sizes
  [ "$device" = cpu ] && field=peak_resident_bytes
  sizes="$(cut -d, -f1-6 <<<"${shapes[0]}")"
  for again in none blocks; do
    first=
    for length in "${lengths[@]}"; do
      bench "memory-$again-${length/,/-}" --shape "$sizes,$length" --recompute "$again" --warm-up 0 --steps 2 || return 1
      last="$(numbers "$out/memory-$again-${length/,/-}.json" "$field")"
      within 1 "${last:-0}" || fail "there is no $field in $out/memory-$again-${length/,/-}.json" || return 1
      first="${first:-$last}"
      within "$last" "$(awk -v a="$first" 'BEGIN { printf "%.0f", 1.5 * a }')" ||
        fail "with recompute $again rows of ${lengths[0]%,*} tokens take $(megabytes "$first") and as many tokens in rows of ${length%,*} $(megabytes "$last"), more than half as much again" || return 1
    done
    said+=("recompute $again $(megabytes "$first") and $(megabytes "$last")")
  done
  echo "peaks of $field with rows of ${lengths[0]%,*} and of ${length%,*} tokens: $(joined ', ' "${said[@]}")"
}

megabytes() {
  awk -v a="$1" 'BEGIN { printf "%.0f MB", a / 1e6 }'
}

stage_decode() {
  local rate
  trained && generate decode "$device" 101 || return 1
  rate="$(numbers "$out/decode.json" tokens_per_second)"
  within 0.001 "${rate:-0}" || fail "there is no speed in $out/decode.json" || return 1
  awk -v r="$rate" 'BEGIN { printf "100 tokens after the first took %.2f ms each with a model of two layers\n", 1000 / r }'
}

stage_nccl() { # one rank
  local ran
  ran="$(tests ProcessGroupTest)" && echo "a group of one rank: $ran"
}

# ---------------------------------------------------------------- run them

failed=0
stop() {
  echo "$stage: stopped; $out/results.txt has what was tried" | tee -a "$out/results.txt"
  exit 130
}
trap stop INT
{
  echo "$(date '+%F %T'), $(git rev-parse --short HEAD 2>/dev/null || echo 'no commit known'), $device"
  [ "$device" = cpu ] || nvidia-smi --query-gpu=index,name,driver_version,memory.total --format=csv,noheader 2>/dev/null ||
    echo "nvidia-smi is missing or says nothing, so which card this is is not known"
} | tee -a "$out/results.txt"
for stage in "${@:-${stages[@]}}"; do
  began=$SECONDS
  if said="$(trap 'exit 130' INT && "stage_$stage" 2>"$out/$stage.why")"; then
    said="passed in $((SECONDS - began)) s: $said"
  else
    said="failed after $((SECONDS - began)) s: $(tr '\n' ' ' <"$out/$stage.why")"
    failed=1
  fi
  echo "$stage: $said" | tee -a "$out/results.txt"
done
exit "$failed"
