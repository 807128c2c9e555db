"""Writes reference.json: what the mixtures of transformers 5.18 compute, for FeedForwardReferenceTest.

Numbers are those of one formula, so that the test makes the same ones; of a weight's gradient one number is kept, its
sum weighted by others of the formula. Names of weights are Sluice's. Run: python reference.py > reference.json
"""

import json
import math
import sys

import torch
from transformers import AfmoeConfig, AfmoeForCausalLM
from transformers.models.afmoe import modeling_afmoe as afmoe
from transformers.models.gpt_oss import configuration_gpt_oss, modeling_gpt_oss as gpt_oss
from transformers.models.laguna import configuration_laguna, modeling_laguna as laguna
from transformers.models.qwen3_moe import configuration_qwen3_moe, modeling_qwen3_moe as qwen3_moe
from transformers.models.qwen3_next import configuration_qwen3_next, modeling_qwen3_next as qwen3_next
from transformers.models.step3p7 import configuration_step3p7, modeling_step3p7 as step3p7

D, F, SHARED, E, K = 6, 5, 8, 7, 3


def eager(config):
    config._experts_implementation = "eager"  # the fast ones refuse such small matrices
    return config


def fill(shape, seed):
    values = [math.sin(0.37 * i * i + 1.1 * i + 2.3 * seed) for i in range(math.prod(shape))]
    return torch.tensor(values, dtype=torch.float32).reshape(shape)


def weighted(gradient, seed):
    return (gradient.double() * fill(gradient.shape, seed + 100).double()).sum().item()


def numbers(tensor):
    return [float("%.9g" % number) for number in tensor.detach().flatten().tolist()]


class Own:
    """Weights under Sluice's names, made by the formula in the order of their making."""

    def __init__(self):
        self.tensors = {}
        self.added = {}

    def __call__(self, name, *shape, add=None):
        tensor = fill(shape, len(self.tensors))
        if add is not None:
            tensor = tensor + torch.tensor(add)
            self.added[name] = add
        self.tensors[name] = tensor.requires_grad_()
        return self.tensors[name]

    def unit(self, prefix, width, biases=False, hidden=D):
        names = [("gate", width, hidden), ("up", width, hidden), ("down", hidden, width)]
        all = [self(f"{prefix}{name}_proj.weight", out, into) for name, out, into in names]
        if biases:
            all += [self(f"{prefix}{name}_proj.bias", out) for name, out, _ in names]
        return all


def run(name, module, own, plain, x=None):
    """Runs a module whose parameters are the values of `plain`, functions of own ones."""
    x = fill((2, 5, D), 51) if x is None else x
    x.requires_grad_()
    y = torch.func.functional_call(module, plain, (x,))
    y = y[0] if isinstance(y, tuple) else y
    y.backward(fill(y.shape, 50))
    case = {"name": name, "y": numbers(y), "dx": numbers(x.grad), "added": own.added, "gradients": {}}
    for seed, (weight, tensor) in enumerate(own.tensors.items()):
        case["gradients"][weight] = None if tensor.grad is None else weighted(tensor.grad, seed)
    return case


def experts(own, width=F, biases=False):
    return [own.unit(f"experts.{e}.", width, biases) for e in range(E)]


def packed(prefix, units):
    return {
        prefix + "gate_up_proj": torch.stack([torch.cat([unit[0], unit[1]]) for unit in units]),
        prefix + "down_proj": torch.stack([unit[2] for unit in units]),
    }


def shared(prefix, unit):
    return dict(zip([f"{prefix}{name}_proj.weight" for name in ("gate", "up", "down")], unit))


def of_qwen(name, normalized):
    config = configuration_qwen3_moe.Qwen3MoeConfig(
        hidden_size=D, moe_intermediate_size=F, num_experts=E, num_experts_per_tok=K, norm_topk_prob=normalized)
    own = Own()
    plain = {"gate.weight": own("gate.weight", E, D)}
    plain |= packed("experts.", experts(own))
    return run(name, qwen3_moe.Qwen3MoeSparseMoeBlock(eager(config)), own, plain)


def of_qwen_next():
    config = configuration_qwen3_next.Qwen3NextConfig(
        hidden_size=D, moe_intermediate_size=F, num_experts=E, num_experts_per_tok=K, norm_topk_prob=False,
        shared_expert_intermediate_size=SHARED)
    own = Own()
    plain = {"gate.weight": own("gate.weight", E, D)}
    plain |= shared("shared_expert.", own.unit("shared_expert.", SHARED))
    plain["shared_expert_gate.weight"] = own("shared_expert_gate.weight", 1, D)
    plain |= packed("experts.", experts(own))
    return run("qwen3_next", qwen3_next.Qwen3NextSparseMoeBlock(eager(config)), own, plain)


def never(expert):
    return [-10.0 if e == expert else 0.0 for e in range(E)]


def of_afmoe():
    config = AfmoeConfig(
        hidden_size=D, moe_intermediate_size=F, num_experts=E, num_experts_per_tok=K, num_shared_experts=2,
        route_scale=2.5)
    own = Own()
    plain = {"router.gate.weight": own("gate.weight", E, D)}
    plain["expert_bias"] = own("gate.e_score_correction_bias", E, add=never(2))
    plain |= shared("shared_experts.", own.unit("shared_expert.", 2 * F))
    plain |= packed("experts.", experts(own))
    return run("afmoe", afmoe.AfmoeSparseMoeBlock(eager(config)), own, plain)


def of_gpt_oss():
    config = configuration_gpt_oss.GptOssConfig(
        hidden_size=D, intermediate_size=F, num_local_experts=E, num_experts_per_tok=K)
    module = gpt_oss.GptOssMLP(eager(config))
    module.experts.limit = 1.5
    own = Own()
    plain = {"router.weight": own("gate.weight", E, D), "router.bias": own("gate.bias", E, add=never(4))}
    units = experts(own, biases=True)
    interleaved = [torch.stack([unit[0], unit[1]], 1).flatten(0, 1).T for unit in units]
    plain["experts.gate_up_proj"] = torch.stack(interleaved)
    plain["experts.gate_up_proj_bias"] = torch.stack([torch.stack([u[3], u[4]], 1).flatten() for u in units])
    plain["experts.down_proj"] = torch.stack([unit[2].T for unit in units])
    plain["experts.down_proj_bias"] = torch.stack([unit[5] for unit in units])
    return run("gpt_oss", module, own, plain)


def step_config():
    return configuration_step3p7.Step3p7TextConfig(
        hidden_size=D, intermediate_size=F, moe_intermediate_size=F, num_local_experts=E, n_routed_experts=E,
        num_experts_per_tok=K, share_expert_dim=SHARED, moe_router_scaling_factor=1.7, num_hidden_layers=2,
        swiglu_limits=[0.0, 0.8], swiglu_limits_shared=[0.4, 0.6])


def of_step():
    own = Own()
    plain = {"gate.weight": own("gate.weight", E, D)}
    plain["gate.e_score_correction_bias"] = own("gate.e_score_correction_bias", E)
    plain |= shared("shared_experts.", own.unit("shared_expert.", SHARED))
    plain |= packed("experts.", experts(own))
    return run("step3p7", step3p7.Step3p7SparseMoeBlock(eager(step_config()), 1), own, plain)


def of_dense_step():
    own = Own()
    return run("step3p7 dense", step3p7.Step3p7MLP(step_config(), 0), own, shared("", own.unit("", F)))


def of_laguna():
    config = configuration_laguna.LagunaConfig(
        hidden_size=D, moe_intermediate_size=F, num_experts=E, num_experts_per_tok=K,
        shared_expert_intermediate_size=SHARED, moe_routed_scaling_factor=1.9, moe_router_logit_softcapping=1.2)
    own = Own()
    plain = {"gate.weight": own("gate.weight", E, D)}
    plain["gate.e_score_correction_bias"] = own("gate.e_score_correction_bias", E)
    plain |= shared("shared_experts.", own.unit("shared_expert.", SHARED))
    plain |= packed("experts.", experts(own))
    return run("laguna", laguna.LagunaSparseMoeBlock(eager(config)), own, plain)


def of_whole_afmoe(tied):
    """A dense layer and two mixtures; the windows are longer than the text."""
    hidden, heads, keys, head, vocabulary, layers = 12, 4, 2, 6, 13, 3
    config = AfmoeConfig(
        vocab_size=vocabulary, hidden_size=hidden, intermediate_size=14, moe_intermediate_size=F,
        num_hidden_layers=layers, num_dense_layers=1, num_attention_heads=heads, num_key_value_heads=keys,
        head_dim=head, num_experts=E, num_experts_per_tok=K, num_shared_experts=2, route_scale=2.5, mup_enabled=True,
        layer_types=["sliding_attention"] * layers, sliding_window=64, tie_word_embeddings=tied,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0}, attn_implementation="eager")
    model = AfmoeForCausalLM(eager(config)).float()
    own = Own()
    plain = {"model.embed_tokens.weight": own("model.embed_tokens.weight", vocabulary, hidden)}
    for layer in range(layers):
        p = f"model.layers.{layer}."
        plain[p + "input_layernorm.weight"] = own(p + "input_layernorm.weight", hidden)
        for name, out, into in [("q", heads * head, hidden), ("k", keys * head, hidden), ("v", keys * head, hidden),
                                ("o", hidden, heads * head)]:
            plain[p + f"self_attn.{name}_proj.weight"] = own(p + f"self_attn.{name}_proj.weight", out, into)
        for name in ("q", "k"):
            plain[p + f"self_attn.{name}_norm.weight"] = own(p + f"self_attn.{name}_norm.weight", head)
        plain[p + "self_attn.gate_proj.weight"] = own(p + "self_attn.gates.sdpa.weight", heads * head, hidden)
        plain[p + "post_attention_layernorm.weight"] = own(p + "attention_output_layernorm.weight", hidden)
        plain[p + "pre_mlp_layernorm.weight"] = own(p + "post_attention_layernorm.weight", hidden)
        m = p + "mlp."
        if layer == 0:
            plain |= shared(m, own.unit(m, 14, hidden=hidden))
        else:
            plain[m + "router.gate.weight"] = own(m + "gate.weight", E, hidden)
            plain[m + "expert_bias"] = own(m + "gate.e_score_correction_bias", E)
            plain |= shared(m + "shared_experts.", own.unit(m + "shared_expert.", 2 * F, hidden=hidden))
            plain |= packed(m + "experts.", [own.unit(f"{m}experts.{e}.", F, hidden=hidden) for e in range(E)])
        plain[p + "post_mlp_layernorm.weight"] = own(p + "mlp_output_layernorm.weight", hidden)
    plain["model.norm.weight"] = own("model.norm.weight", hidden)
    plain["lm_head.weight"] = plain["model.embed_tokens.weight"] if tied else own("lm_head.weight", vocabulary, hidden)
    ids = [5, 0, 12, 7, 7, 3, 1, 9, 2, 4]
    logits = torch.func.functional_call(
        model, plain, kwargs={"input_ids": torch.tensor([ids[:-1]]), "use_cache": False}).logits[0]
    loss = torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]))
    loss.backward()
    case = {"name": "afmoe whole" + (", tied" if tied else ""), "ids": ids, "y": numbers(logits), "loss": loss.item(),
            "added": own.added}
    case["gradients"] = {
        weight: None if tensor.grad is None else weighted(tensor.grad, seed)
        for seed, (weight, tensor) in enumerate(own.tensors.items())}
    return case


if __name__ == "__main__":
    cases = [
        of_qwen("qwen3_moe", False), of_qwen("qwen3_moe, norm_topk_prob", True), of_qwen_next(), of_afmoe(),
        of_gpt_oss(), of_step(), of_dense_step(), of_laguna(), of_whole_afmoe(False), of_whole_afmoe(True)]
    sys.stdout.write("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
