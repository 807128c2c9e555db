#!/usr/bin/env bash
# Sluice and torch.compile in turn, each as a process of its own, on the same shape, gate and precision.
# Usage: compare.sh PYTHON [PAIRS]     PYTHON has torch 2.13.0 (CPU); torch.compile needs g++
# Writes raw/pairs.jsonl, a line per process, and prints a table of medians.
set -euo pipefail
python="$1"
pairs="${2:-5}"
here="$(cd "$(dirname "$0")" && pwd)"
sluice="$here/../../../sluice"
out="$here/raw/pairs.jsonl"
: >"$out"
pair() { # SHAPE PRECISION STEPS
  local flag="" json
  [ "$2" = float32 ] || flag=--bf16
  json="$(mktemp)"
  "$python" "$here/train_pytorch.py" --compile $flag --gate elementwise --shape "$1" --steps "$3" 2>/dev/null |
    sed -n "s/.*M  \([0-9]*\) tokens.*peak \([0-9.]*\) GB.*/{\"who\":\"torch.compile\",\"shape\":\"$1\",\"precision\":\"$2\",\"tokens_per_second\":\1,\"peak_gigabytes\":\2}/p" >>"$out"
  "$sluice" bench train --shape "$1" --precision "$2" --gate sdpa-elementwise --steps "$3" --json "$json" >/dev/null 2>&1
  "$python" -c "
import json, sys
b = json.load(open('$json')); a = b['arms'][0]
print(json.dumps(dict(who='sluice', shape='$1', precision='$2', tokens_per_second=round(a['tokens_per_second'], 1),
    peak_gigabytes=round(b['peak_resident_bytes'] / 1024e6, 3), product_share=round(a['flops_per_second'] / a['product_flops_per_second'], 3)), separators=(',', ':')))" >>"$out"
  rm -f "$json"
}
for i in $(seq "$pairs"); do
  echo "pair $i of $pairs" >&2
  pair 384,8,6,2,1024,256,512,16 bfloat16 7
  pair 384,8,6,2,1024,256,512,16 float32 6
  pair 768,12,12,4,2048,4096,1024,4 bfloat16 5
  pair 128,4,4,2,384,256,256,16 bfloat16 40
done
"$python" - "$out" <<'PY'
import json, statistics as st, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
print("shape | precision | torch.compile tokens/s | sluice tokens/s | ratio, median of pairs (min, max) | peak GB torch, sluice | share of product rate")
for key in dict.fromkeys((r["shape"], r["precision"]) for r in rows):
    mine = [r for r in rows if (r["shape"], r["precision"]) == key]
    t = [r for r in mine if r["who"] != "sluice"]; s = [r for r in mine if r["who"] == "sluice"]
    q = [b["tokens_per_second"] / a["tokens_per_second"] for a, b in zip(t, s)]
    med = lambda rs, k: st.median(r[k] for r in rs)
    print(*key, f"{med(t, 'tokens_per_second'):.0f}", f"{med(s, 'tokens_per_second'):.0f}", f"{st.median(q):.2f} ({min(q):.2f}, {max(q):.2f})",
          f"{med(t, 'peak_gigabytes'):.2f}, {med(s, 'peak_gigabytes'):.2f}", f"{med(s, 'product_share'):.2f}", sep=" | ")
PY
