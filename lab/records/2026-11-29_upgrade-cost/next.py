"""Loads a retrofitted model in transformers as Qwen3-Next with attention in all layers, and writes its logits for `sluice parity`."""
import json, sys, shutil, torch, transformers
from safetensors.torch import load_file, save_file
src, out = sys.argv[1:3]
c = json.load(open(src + "/config.json")); w = load_file(src + "/model.safetensors")
n = c["num_hidden_layers"]
config = transformers.Qwen3NextConfig(vocab_size=c["vocab_size"], hidden_size=c["hidden_size"], intermediate_size=c["intermediate_size"],
    num_hidden_layers=n, num_attention_heads=c["num_attention_heads"], num_key_value_heads=c["num_key_value_heads"], head_dim=c["head_dim"],
    rms_norm_eps=c["rms_norm_eps"], tie_word_embeddings=c["tie_word_embeddings"], max_position_embeddings=c["max_position_embeddings"],
    rope_parameters={"rope_type": "default", "rope_theta": c["rope_theta"], "partial_rotary_factor": 1.0}, partial_rotary_factor=1.0,
    layer_types=["full_attention"] * n, mlp_only_layers=list(range(n)), attn_implementation="eager")
net = transformers.Qwen3NextForCausalLM(config).eval()
net.config._attn_implementation = "eager"
state = {k: v - 1 if "norm" in k else v for k, v in w.items()}  # its norms are 1 + w
missing = net.load_state_dict(state, strict=False)
print("missing", missing.missing_keys, "unexpected", missing.unexpected_keys)
torch.manual_seed(0)
ids = torch.randint(0, c["vocab_size"], (2, 96))
with torch.no_grad(): r = net(ids, output_hidden_states=True)
greedy = net.generate(ids[:, :48], max_new_tokens=12, do_sample=False, pad_token_id=0, eos_token_id=None)[:, 48:]
shutil.rmtree(out, ignore_errors=True); shutil.copytree(src, out)
g = {"input_ids": ids, "logits": r.logits.contiguous().float(), "greedy": greedy.contiguous()}
for i, h in enumerate(r.hidden_states): g[f"hidden.{i}"] = h.contiguous().float()
save_file(g, out + "/golden.safetensors", {"prompt_tokens": "48"})
print("logits up to", r.logits.abs().max().item())
