"""Writes what MultiTokenPredictionTest compares with of heads whose block has experts: small random models of transformers
(5.18) with a head for a further token, as directories with reference.json beside, as reference.py makes the dense one.
Experts are named as published: each by itself in qwen3-next/, all of a layer in one tensor in qwen3.5-moe/. Seeds are some
with which no token's experts are nearly chosen otherwise. Needs torch, transformers, safetensors.
Run: python mixtures.py
"""

import json
import os
import re

import torch
from safetensors.torch import save_file
from transformers import Qwen3_5MoeForCausalLM, Qwen3NextConfig, Qwen3NextForCausalLM
from transformers.models.qwen3_5_moe.configuration_qwen3_5_moe import Qwen3_5MoeTextConfig

from head import Head, attention_shapes, draw_head, draw_model

D, HEADS, KV, H, F, SHARED, V = 32, 2, 1, 16, 12, 20, 128
EXPERTS, CHOSEN, EPS, THETA, ROTARY = 4, 2, 1e-6, 1e4, 4
IDS = [67, 97, 108, 108, 32, 109, 101, 32, 73, 115, 104, 46]
COMMON = dict(
    vocab_size=V, hidden_size=D, moe_intermediate_size=F, shared_expert_intermediate_size=SHARED, num_experts=EXPERTS,
    num_experts_per_tok=CHOSEN, num_hidden_layers=2, num_attention_heads=HEADS, num_key_value_heads=KV, head_dim=H,
    max_position_embeddings=128, rms_norm_eps=EPS, tie_word_embeddings=False,
    layer_types=["linear_attention", "full_attention"], linear_conv_kernel_dim=4, linear_key_head_dim=8,
    linear_value_head_dim=8, linear_num_key_heads=1, linear_num_value_heads=2, eos_token_id=None, bos_token_id=None,
    pad_token_id=None)
KEPT = list(COMMON)[:-3] + ["rope_parameters", "model_type", "hidden_act", "attention_bias"]
TOGETHER = re.compile(r"(.*mlp\.experts\.)(gate_up|down)_proj")


def separate(weights):
    """Each expert's matrices by themselves."""
    found = {}
    for name, weight in weights.items():
        match = TOGETHER.fullmatch(name)
        if match is None:
            found[name] = weight
            continue
        for i, own in enumerate(weight):
            parts = {"gate": own[:F], "up": own[F:]} if match[2] == "gate_up" else {"down": own}
            for part, rows in parts.items():
                found[f"{match[1]}{i}.{part}_proj.weight"] = rows.clone()
    return found


def together(weights):
    """The experts of the head in two tensors, as those of the layers are."""
    prefix = "mtp.layers.0.mlp.experts."
    found = {name: weight for name, weight in weights.items() if not name.startswith(prefix)}

    def all_of(part):
        return torch.stack([weights[f"{prefix}{i}.{part}_proj.weight"] for i in range(EXPERTS)])

    found[prefix + "gate_up_proj"] = torch.cat([all_of("gate"), all_of("up")], 1)
    found[prefix + "down_proj"] = all_of("down")
    return found


def write(directory, architecture, config, seed, isSeparate):
    torch.manual_seed(seed)
    config._experts_implementation = "eager"  # its other forms take no float64
    model = architecture(config).float().eval()
    weights = draw_model(model)
    shapes = attention_shapes(D, HEADS, KV, H) | {"mlp.gate": (EXPERTS, D), "mlp.shared_expert_gate": (1, D)}
    for unit, width in [("shared_expert", SHARED)] + [(f"experts.{i}", F) for i in range(EXPERTS)]:
        shapes |= {f"mlp.{unit}.gate_proj": (width, D), f"mlp.{unit}.up_proj": (width, D), f"mlp.{unit}.down_proj": (D, width)}
    weights |= draw_head(D, H, shapes)
    head = Head(weights, HEADS, KV, H, ROTARY, EPS, THETA)
    answers = head.answers(model, IDS, lambda x, prefix: head.mixture(x, prefix, CHOSEN))
    here = os.path.join(os.path.dirname(os.path.abspath(__file__)), directory)
    os.makedirs(here, exist_ok=True)
    stored = separate(weights) if isSeparate else together(weights)
    save_file({name: weight.contiguous() for name, weight in stored.items()}, f"{here}/model.safetensors", {"format": "pt"})
    said = json.loads(config.to_json_string(use_diff=False))
    with open(f"{here}/config.json", "w") as file:
        kept = {key: said[key] for key in KEPT if key in said}
        json.dump({"architectures": [architecture.__name__]} | kept, file, indent=1)
        file.write("\n")
    with open(f"{here}/reference.json", "w") as file:
        json.dump(answers, file)
        file.write("\n")


rope = {"rope_type": "default", "rope_theta": THETA, "partial_rotary_factor": ROTARY / H}
write("qwen3-next", Qwen3NextForCausalLM, Qwen3NextConfig(**COMMON, rope_parameters=rope), 12, True)
write("qwen3.5-moe", Qwen3_5MoeForCausalLM,
      Qwen3_5MoeTextConfig(**COMMON, rope_parameters=rope | {"mrope_interleaved": True, "mrope_section": [1, 1, 0]}), 12, False)
