"""The head that predicts a token further, by its formulas, in float64; and weights for it."""

import torch


def attention_shapes(d, heads, key_value_heads, width):
    return {"self_attn.q_proj": (2 * heads * width, d), "self_attn.k_proj": (key_value_heads * width, d),
            "self_attn.v_proj": (key_value_heads * width, d), "self_attn.o_proj": (d, heads * width)}


def numbers(tensor):
    return [float("%.9g" % number) for number in tensor.flatten().tolist()]


def drawn(shape, scale):
    return torch.randn(shape) * scale


def draw_model(model):
    """New numbers for a model's weights, large enough that every path matters."""
    weights = {}
    with torch.no_grad():
        for name, weight in model.state_dict().items():
            if name.endswith("A_log"):
                weight.copy_(torch.rand(weight.shape).mul(4).add(0.5).log())
            elif name.endswith("norm.weight") and weight.dim() == 1:
                weight.add_(drawn(weight.shape, 0.2))
            elif weight.dim() > 1:
                weight.copy_(drawn(weight.shape, 0.3))
            weights[name] = weight.clone().contiguous()
    return weights


def draw_head(d, width, shapes):
    """Weights of a head whose block has matrices of these shapes."""
    head = {"mtp.fc.weight": drawn((d, 2 * d), 0.25)}
    for name in ("pre_fc_norm_embedding", "pre_fc_norm_hidden", "norm", "layers.0.input_layernorm",
                 "layers.0.post_attention_layernorm"):
        head[f"mtp.{name}.weight"] = drawn((d,), 0.3)
    for name, shape in shapes.items():
        head[f"mtp.layers.0.{name}.weight"] = drawn(shape, 0.3)
    for name in ("q_norm", "k_norm"):
        head[f"mtp.layers.0.self_attn.{name}.weight"] = drawn((width,), 0.3)
    return head


class Head:
    """Of weights by their names, which are computed with in float64."""

    def __init__(self, weights, heads, key_value_heads, width, rotary, eps, theta):
        self.weights, self.heads, self.key_value_heads, self.width = weights, heads, key_value_heads, width
        self.rotary, self.eps, self.theta = rotary, eps, theta

    def w(self, name):
        return self.weights[name].double()

    def norm(self, x, name):
        return x * (x.square().mean(-1, keepdim=True) + self.eps).rsqrt() * (1 + self.w(name))

    def turned(self, x, position):
        """The first numbers of each head, half against half."""
        half = self.rotary // 2
        angle = position * self.theta ** (-torch.arange(half).double() * 2 / self.rotary)
        a, b = x[..., :half], x[..., half:self.rotary]
        return torch.cat([a * angle.cos() - b * angle.sin(), b * angle.cos() + a * angle.sin(), x[..., self.rotary:]], -1)

    def unit(self, x, prefix):
        """SwiGLU."""
        inner = torch.nn.functional.silu(x @ self.w(prefix + "gate_proj.weight").T) * (x @ self.w(prefix + "up_proj.weight").T)
        return inner @ self.w(prefix + "down_proj.weight").T

    def mixture(self, x, prefix, chosen):
        """Each token's likeliest experts by their shares, and the one that all tokens go through, by its gate."""
        shares = (x @ self.w(prefix + "gate.weight").T).softmax(-1)
        rows = []
        for row, share in zip(x, shares):
            best = share.topk(chosen).indices.tolist()
            rows.append(sum(share[i] * self.unit(row, f"{prefix}experts.{i}.") for i in best) / share[best].sum())
        shared = (x @ self.w(prefix + "shared_expert_gate.weight").T).sigmoid() * self.unit(x, prefix + "shared_expert.")
        return torch.stack(rows) + shared

    def drafted(self, hidden, following, feed_forward):
        """What the head makes of hidden states [T, D] and the tokens that follow them.

        feed_forward takes rows and the prefix of its names."""
        z = torch.cat([self.norm(self.w("model.embed_tokens.weight")[following], "mtp.pre_fc_norm_embedding.weight"),
                       self.norm(hidden, "mtp.pre_fc_norm_hidden.weight")], -1) @ self.w("mtp.fc.weight").T
        block = "mtp.layers.0."
        x = self.norm(z, block + "input_layernorm.weight")
        both = (x @ self.w(block + "self_attn.q_proj.weight").T).reshape(len(x), self.heads, 2, self.width)
        q = self.norm(both[:, :, 0], block + "self_attn.q_norm.weight")
        keys_shape = (len(x), self.key_value_heads, self.width)
        k = self.norm((x @ self.w(block + "self_attn.k_proj.weight").T).reshape(keys_shape), block + "self_attn.k_norm.weight")
        v = (x @ self.w(block + "self_attn.v_proj.weight").T).reshape(keys_shape)
        rows = []
        for t in range(len(x)):
            heads = []
            for j in range(self.heads):
                at = j * self.key_value_heads // self.heads
                query = self.turned(q[t, j], t)
                scores = torch.stack([query @ self.turned(k[s, at], s) / self.width ** 0.5 for s in range(t + 1)]).softmax(0)
                heads.append((scores[:, None] * v[: t + 1, at]).sum(0) * both[t, j, 1].sigmoid())
            rows.append(torch.cat(heads))
        y = z + torch.stack(rows) @ self.w(block + "self_attn.o_proj.weight").T
        x = self.norm(y, block + "post_attention_layernorm.weight")
        return self.norm(y + feed_forward(x, block + "mlp."), "mtp.norm.weight")

    def answers(self, model, ids, feed_forward):
        """What tests compare with: hidden states of a model, what the head makes of them, and the last logits."""
        with torch.no_grad():
            hidden = model.double().model(torch.tensor([ids])).last_hidden_state[0][:-1]
            ahead = self.drafted(hidden, torch.tensor(ids[1:]), feed_forward)
            logits = ahead @ self.w("lm_head.weight").T
        return {"ids": ids, "hidden": numbers(hidden), "ahead": numbers(ahead), "logits": numbers(logits[-1])}
