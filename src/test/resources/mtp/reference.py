"""Writes what MultiTokenPredictionTest compares with: a small random Qwen3.5 with a head for a further token, as a
Hugging Face directory (checkpoint/) and as a GGUF file (model.gguf), and reference.json, what the head makes of twelve
tokens. The model is transformers' (5.18), which has no such head; the head is written out in head.py by its formulas; both are
computed in float64. The seed is one with which float32 is near. Names and numbers of the GGUF file are those of llama.cpp's conversion: the head is block 2 of two layers, norms are
stored as 1 + w, value heads key head by key head. Needs torch, transformers, safetensors, gguf.
Run: python reference.py
"""

import json
import os

import gguf
import numpy as np
import torch
from safetensors.torch import save_file
from transformers import Qwen3_5ForCausalLM
from transformers.models.qwen3_5.configuration_qwen3_5 import Qwen3_5TextConfig

from head import Head, attention_shapes, draw_head, draw_model

D, HEADS, KV, H, F, V, LAYERS = 32, 2, 1, 16, 40, 256, 2
KEY_HEADS, VALUE_HEADS, WIDTH, CONV, EPS, THETA = 1, 2, 8, 4, 1e-6, 1e4
ROTARY = 4

torch.manual_seed(12)
config = Qwen3_5TextConfig(
    vocab_size=V, hidden_size=D, intermediate_size=F, num_hidden_layers=LAYERS, num_attention_heads=HEADS,
    num_key_value_heads=KV, head_dim=H, max_position_embeddings=128, rms_norm_eps=EPS, tie_word_embeddings=False,
    layer_types=["linear_attention", "full_attention"], full_attention_interval=2, linear_conv_kernel_dim=CONV,
    linear_key_head_dim=WIDTH, linear_value_head_dim=WIDTH, linear_num_key_heads=KEY_HEADS,
    linear_num_value_heads=VALUE_HEADS, eos_token_id=None, bos_token_id=None, pad_token_id=None,
    rope_parameters={"rope_type": "default", "rope_theta": THETA, "partial_rotary_factor": ROTARY / H,
                     "mrope_interleaved": True, "mrope_section": [1, 1, 0]})
model = Qwen3_5ForCausalLM(config).float().eval()


weights = draw_model(model)
shapes = attention_shapes(D, HEADS, KV, H) | {"mlp.gate_proj": (F, D), "mlp.up_proj": (F, D), "mlp.down_proj": (D, F)}
weights |= draw_head(D, H, shapes)
head = Head(weights, HEADS, KV, H, ROTARY, EPS, THETA)
answers = head.answers(model, [67, 97, 108, 108, 32, 109, 101, 32, 73, 115, 104, 46], head.unit)
here = os.path.dirname(os.path.abspath(__file__))
os.makedirs(f"{here}/checkpoint", exist_ok=True)
save_file({name: weight.contiguous() for name, weight in weights.items()}, f"{here}/checkpoint/model.safetensors",
          {"format": "pt"})
said = json.loads(config.to_json_string(use_diff=False))
keep = ("vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim"
        " max_position_embeddings rms_norm_eps tie_word_embeddings layer_types linear_conv_kernel_dim linear_key_head_dim"
        " linear_value_head_dim linear_num_key_heads linear_num_value_heads rope_parameters model_type hidden_act"
        " attention_bias").split()
with open(f"{here}/checkpoint/config.json", "w") as file:
    json.dump({"architectures": ["Qwen3_5ForCausalLM"]} | {key: said[key] for key in keep}, file, indent=1)
    file.write("\n")
with open(f"{here}/reference.json", "w") as file:
    json.dump(answers, file)
    file.write("\n")

# ---------------------------------------------------------------- the same as llama.cpp's conversion has it

PARTS = {
    "input_layernorm.weight": "attn_norm.weight", "post_attention_layernorm.weight": "post_attention_norm.weight",
    "self_attn.q_proj.weight": "attn_q.weight", "self_attn.k_proj.weight": "attn_k.weight",
    "self_attn.v_proj.weight": "attn_v.weight", "self_attn.o_proj.weight": "attn_output.weight",
    "self_attn.q_norm.weight": "attn_q_norm.weight", "self_attn.k_norm.weight": "attn_k_norm.weight",
    "mlp.gate_proj.weight": "ffn_gate.weight", "mlp.up_proj.weight": "ffn_up.weight",
    "mlp.down_proj.weight": "ffn_down.weight", "linear_attn.in_proj_qkv.weight": "attn_qkv.weight",
    "linear_attn.in_proj_z.weight": "attn_gate.weight", "linear_attn.in_proj_b.weight": "ssm_beta.weight",
    "linear_attn.in_proj_a.weight": "ssm_alpha.weight", "linear_attn.conv1d.weight": "ssm_conv1d.weight",
    "linear_attn.A_log": "ssm_a", "linear_attn.dt_bias": "ssm_dt.bias", "linear_attn.norm.weight": "ssm_norm.weight",
    "linear_attn.out_proj.weight": "ssm_out.weight"}
NAMES = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight",
         "lm_head.weight": "output.weight", "mtp.fc.weight": f"blk.{LAYERS}.nextn.eh_proj.weight",
         "mtp.pre_fc_norm_embedding.weight": f"blk.{LAYERS}.nextn.enorm.weight",
         "mtp.pre_fc_norm_hidden.weight": f"blk.{LAYERS}.nextn.hnorm.weight",
         "mtp.norm.weight": f"blk.{LAYERS}.nextn.shared_head_norm.weight"}
file = gguf.GGUFWriter(f"{here}/model.gguf", "qwen35")
file.add_block_count(LAYERS + 1)
file.add_uint32("qwen35.nextn_predict_layers", 1)
file.add_context_length(128)
file.add_embedding_length(D)
file.add_feed_forward_length(F)
file.add_head_count(HEADS)
file.add_head_count_kv(KV)
file.add_key_length(H)
file.add_value_length(H)
file.add_layer_norm_rms_eps(EPS)
file.add_rope_freq_base(THETA)
file.add_rope_dimension_count(ROTARY)
file.add_rope_dimension_sections([1, 1, 0, 0])
file.add_ssm_conv_kernel(CONV)
file.add_ssm_state_size(WIDTH)
file.add_ssm_group_count(KEY_HEADS)
file.add_ssm_time_step_rank(VALUE_HEADS)
file.add_ssm_inner_size(VALUE_HEADS * WIDTH)
file.add_uint32("qwen35.full_attention_interval", 2)
for name, weight in weights.items():
    value = weight.numpy()
    if name.endswith("norm.weight") and "linear_attn" not in name or name.startswith("mtp.pre_fc_norm"):
        value = value + np.float32(1)
    if name.endswith("A_log"):
        value = -np.exp(value)
    if name.endswith("conv1d.weight"):
        value = value.reshape(value.shape[0], -1)
    own = NAMES.get(name)
    if own is None:
        number, part = name.split("layers.")[1].split(".", 1)
        layer = LAYERS if name.startswith("mtp.") else int(number)
        own = f"blk.{layer}.{PARTS[part]}"
    file.add_tensor(own, np.ascontiguousarray(value))  # one key head: the value heads' order is the same
file.write_header_to_file()
file.write_kv_data_to_file()
file.write_tensors_to_file()
file.close()
