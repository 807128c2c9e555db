"""Writes tiny models as llama.cpp's own converter has them, with what transformers computes, for GgufModelTest.

Weights are random, with transformers 5.18; the files are written by convert_hf_to_gguf.py of llama.cpp v0.5.0, which
leaves out the tokenizer, as these models have none. Run: python reference.py FOLDER_OF_LLAMA_CPP FOLDER
"""

import json
import pathlib
import sys

import torch
import transformers

VOCAB, PLACES = 48, [0, 7, 23]
IDS = [(7 * i * i + 5) % VOCAB for i in range(24)]
COMMON = dict(
    vocab_size=VOCAB,
    hidden_size=16,
    num_attention_heads=4,
    num_key_value_heads=2,
    head_dim=8,
    intermediate_size=24,
    moe_intermediate_size=8,
    num_experts=4,
    num_experts_per_tok=2,
    max_position_embeddings=256,
    tie_word_embeddings=False,
    bos_token_id=None,
    eos_token_id=None,
    pad_token_id=None,
)
HYBRID = dict(
    COMMON,
    num_hidden_layers=2,
    layer_types=["linear_attention", "full_attention"],
    full_attention_interval=2,
    head_dim=16,
    num_attention_heads=2,
    num_key_value_heads=1,
    linear_key_head_dim=8,
    linear_value_head_dim=8,
    linear_num_key_heads=2,
    linear_num_value_heads=4,
    shared_expert_intermediate_size=12,
)
SLIDING, FULL = "sliding_attention", "full_attention"
YARN = dict(
    rope_type="yarn",
    factor=4.0,
    original_max_position_embeddings=64,
    beta_fast=32.0,
    beta_slow=1.0,
)
PLAIN = dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=1.0)
LLAMA3 = dict(
    rope_type="llama3",
    rope_theta=10000.0,
    partial_rotary_factor=0.5,
    factor=4.0,
    low_freq_factor=1.0,
    high_freq_factor=8.0,
    original_max_position_embeddings=1024,
)
MODELS = {
    "qwen3moe": ("Qwen3Moe", dict(COMMON, num_hidden_layers=2, norm_topk_prob=True)),
    "qwen3next": ("Qwen3Next", dict(HYBRID, norm_topk_prob=True, partial_rotary_factor=0.25)),
    "qwen35moe": (
        "Qwen3_5Moe",
        dict(
            HYBRID,
            rope_parameters=dict(
                rope_type="default",
                rope_theta=10000000.0,
                partial_rotary_factor=0.25,
                mrope_interleaved=True,
                mrope_section=[1, 1, 0],
            ),
        ),
    ),
    "afmoe": (
        "Afmoe",
        dict(
            COMMON,
            num_hidden_layers=4,
            layer_types=[SLIDING, SLIDING, SLIDING, FULL],
            num_dense_layers=1,
            num_shared_experts=1,
            route_scale=2.5,
            route_norm=True,
            mup_enabled=True,
            sliding_window=6,
        ),
    ),
    "gpt-oss": (
        "GptOss",
        dict(
            {key: COMMON[key] for key in COMMON if key not in ("num_experts", "moe_intermediate_size")},
            num_hidden_layers=2,
            num_local_experts=4,
            intermediate_size=8,
            sliding_window=6,
            rope_parameters=dict(YARN, rope_theta=150000.0, truncate=False),
        ),
    ),
    "laguna": (
        "Laguna",
        dict(
            COMMON,
            num_hidden_layers=4,
            layer_types=[FULL, SLIDING, SLIDING, SLIDING],
            mlp_layer_types=["dense", "sparse", "sparse", "sparse"],
            num_attention_heads_per_layer=[4, 2, 2, 2],
            shared_expert_intermediate_size=12,
            moe_routed_scaling_factor=1.7,
            moe_router_logit_softcapping=0.0,
            gating=True,
            sliding_window=6,
            rope_parameters={
                FULL: dict(YARN, rope_theta=500000.0, partial_rotary_factor=0.5),
                SLIDING: PLAIN,
            },
        ),
    ),
}


def randomize(model):
    generator = torch.Generator().manual_seed(7)
    for name, parameter in list(model.named_parameters()) + list(model.named_buffers()):
        if "inv_freq" in name or not parameter.is_floating_point():
            continue
        noise = torch.randn(parameter.shape, generator=generator)
        with torch.no_grad():
            if parameter.dim() < 2:
                parameter.add_(0.1 * noise)
            else:
                parameter.copy_(noise * parameter.shape[-1] ** -0.5)


def logits(model):
    model.eval()
    with torch.no_grad():
        all = model(torch.tensor([IDS])).logits[0]
    return {str(place): [float("%.9g" % number) for number in all[place].tolist()] for place in PLACES}


def step(folder):
    """Step-3.5 under the names of its publisher, which the converter reads; transformers has it inside of Step-3.7."""
    kinds = [FULL, SLIDING, SLIDING, FULL]
    whole = transformers.models.step3p7.configuration_step3p7.Step3p7Config(
        text_config=dict(
            {key: COMMON[key] for key in COMMON if key not in ("num_experts", "pad_token_id")},
            n_routed_experts=4,
            num_hidden_layers=4,
            layer_types=kinds,
            mlp_layer_types=["dense", "sparse", "sparse", "sparse"],
            num_sliding_attention_heads=2,
            share_expert_dim=12,
            moe_router_scaling_factor=3.0,
            swiglu_limits=[0.0, 0.0, 0.7, 0.0],
            swiglu_limits_shared=[0.0, 0.9, 0.0, 0.0],
            sliding_window=6,
            rope_parameters={FULL: LLAMA3, SLIDING: PLAIN},
        ),
        vision_config=dict(
            hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14
        ),
        image_token_id=VOCAB - 1,
        tie_word_embeddings=False,
    )
    whole._experts_implementation = "eager"
    whole.text_config._experts_implementation = "eager"
    model = transformers.Step3p7ForConditionalGeneration(whole)
    randomize(model)
    model.save_pretrained(folder)
    # without a model_type, with which the converter would ask transformers, and that forgets the rotary shares
    config = dict(
        {key: COMMON[key] for key in ("vocab_size", "hidden_size", "num_attention_heads", "head_dim", "intermediate_size")},
        moe_intermediate_size=8,
        max_position_embeddings=256,
        tie_word_embeddings=False,
        architectures=["Step3p5ForCausalLM"],
        num_hidden_layers=4,
        num_attention_groups=2,
        layer_types=kinds,
        attention_other_setting=dict(num_attention_heads=2, num_attention_groups=2),
        partial_rotary_factors=[0.5 if kind == FULL else 1.0 for kind in kinds],
        rope_theta=[10000.0] * 4,
        rope_scaling={key: LLAMA3[key] for key in LLAMA3 if key not in ("rope_theta", "partial_rotary_factor")},
        moe_num_experts=4,
        moe_top_k=2,
        share_expert_dim=12,
        moe_layers_enum="1,2,3",
        moe_router_scaling_factor=3.0,
        norm_expert_weight=True,
        swiglu_limits=[0.0, 0.0, 0.7, 0.0],
        swiglu_limits_shared=[0.0, 0.9, 0.0, 0.0],
        sliding_window=6,
        rms_norm_eps=whole.text_config.rms_norm_eps,
    )
    (folder / "config.json").write_text(json.dumps(config))
    return model


def convert(converter, checkpoint, target):
    found = converter.get_model_class

    def without_tokenizer(*arguments, **named):
        model = found(*arguments, **named)
        model.set_vocab = lambda self: (self._set_vocab_none(), self.gguf_writer.add_vocab_size(VOCAB))
        return model

    converter.get_model_class = without_tokenizer
    sys.argv = ["convert_hf_to_gguf.py", str(checkpoint), "--outtype", "f32", "--outfile", str(target)]
    if target.stem in ("qwen3next", "qwen35moe"):
        sys.argv.append("--no-mtp")
    converter.main()
    converter.get_model_class = found


def main():
    sys.path.insert(0, sys.argv[1])
    target = pathlib.Path(sys.argv[2])
    import convert_hf_to_gguf as converter

    reference = {"ids": IDS, "logits": {}}
    for word in [*MODELS, "step35"]:
        folder = target / "checkpoints" / word
        folder.mkdir(parents=True, exist_ok=True)
        if word == "step35":
            model = step(folder)
        else:
            name, settings = MODELS[word]
            config_class = name + ("TextConfig" if name == "Qwen3_5Moe" else "Config")
            config = getattr(transformers, config_class)(**settings)
            config._experts_implementation = "eager"
            model = getattr(transformers, name + "ForCausalLM")(config)
            randomize(model)
            model.save_pretrained(folder)
        reference["logits"][word] = logits(model)
        convert(converter, folder, target / (word + ".gguf"))
    (target / "written-by-llama.cpp.json").write_text(json.dumps(reference))


main()
