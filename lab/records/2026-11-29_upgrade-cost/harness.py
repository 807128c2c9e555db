"""Times lm-evaluation-harness's Hugging Face backend on multiple-choice rows, and compares the sums with Sluice's answers.
harness.py MODEL DTYPE TASK SHOTS ROWS BATCH,BATCH... ANSWERS.jsonl
TASK is arc or piqa, its rows stand in TASK.jsonl with the columns of Sluice's tasks arc-easy and piqa."""
import json, random, sys, time, glob
import torch, transformers
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM
model, dtype, task, shots, rows, batches, answers = sys.argv[1:]
shots, rows = int(shots), int(rows)
torch.set_num_threads(2)
pool = [json.loads(line) for line in open(f"{task}.jsonl")]
docs = pool[:rows]
def choices(d): return d["choices"]["text"] if task == "arc" else [d["sol1"], d["sol2"]]
def question(d): return f"Question: {d['question'] if task == 'arc' else d['goal']}\nAnswer:"
def right(d): return d["choices"]["label"].index(d["answerKey"]) if task == "arc" else d["label"]
draw, requests = random.Random(1234), []
for d in docs:
    shown = [e for e in draw.sample(pool, shots + 1) if e is not d][:shots] if shots else []
    context = "".join(f"{question(e)} {choices(e)[right(e)]}\n\n" for e in shown) + question(d)
    requests += [Instance("loglikelihood", d, (context, " " + c), i) for i, c in enumerate(choices(d))]
tokenizer = transformers.AutoTokenizer.from_pretrained(model)
net = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=getattr(torch, dtype))
tokens = [len(tokenizer(r.args[0] + r.args[1])["input_ids"]) for r in requests]
contexts = sum(len(tokenizer(q)["input_ids"]) for q in {r.args[0] for r in requests})
print(f"{model} {dtype} {task} {shots}-shot: {len(docs)} rows, {len(requests)} requests, {sum(tokens)} tokens, distinct contexts {contexts}", flush=True)
for batch in batches.split(","):
    lm = HFLM(pretrained=net, tokenizer=tokenizer, batch_size=int(batch), device="cpu")
    begin, cpu = time.perf_counter(), time.process_time()
    scores = lm.loglikelihood(requests, disable_tqdm=True)
    print(f"lm-eval, batch {batch}: {time.perf_counter() - begin:.2f} s, of the processor {time.process_time() - cpu:.1f} s", flush=True)
known = {}
for line in open(glob.glob(answers)[0]):
    line = json.loads(line)
    known[line["document"]] = [a["logLikelihood"] for a in line["answers"]]
ours = [x for d in range(len(docs)) for x in known[d]]
print("largest difference of a sum:", max(abs(a - b[0]) for a, b in zip(ours, scores)), "of", max(abs(b[0]) for b in scores))
