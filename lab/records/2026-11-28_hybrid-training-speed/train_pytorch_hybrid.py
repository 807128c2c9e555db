#!/usr/bin/env python3
"""The peer's hybrid: Gated DeltaNet and attention 3:1 in plain PyTorch, the delta rule being transformers' own chunked one
(modeling_qwen3_5.torch_chunk_gated_delta_rule), everything else as in ../2026-11-25_training-speed/train_pytorch.py.
Usage: train_pytorch_hybrid.py [--compile] [--bf16] [--turns] [--shape D,L,H,KV,FFN,V,T,B] [--steps N]
--turns: a step for each line on standard input, answered with its seconds."""
import argparse, resource, statistics as st, sys, time
import torch, torch.nn as nn, torch.nn.functional as F
from transformers.models.qwen3_5.modeling_qwen3_5 import torch_chunk_gated_delta_rule

a = argparse.ArgumentParser()
a.add_argument("--compile", action="store_true"); a.add_argument("--bf16", action="store_true"); a.add_argument("--turns", action="store_true")
a.add_argument("--shape", default="384,8,6,2,1024,256,2048,4"); a.add_argument("--steps", type=int, default=6)
a = a.parse_args()
D, L, H, KV, FF, V, T, B = map(int, a.shape.split(","))
hd = D // H
NK, NV, W = H // 2 if H % 2 == 0 else H, H, 4  # heads of keys and values, tokens of the convolution


def rope(x, cos, sin):
    x1, x2 = x.chunk(2, -1)
    return x * cos + torch.cat((-x2, x1), -1) * sin


class Attention(nn.Module):
    def __init__(s):
        super().__init__()
        s.qn, s.kn = nn.RMSNorm(hd, 1e-6), nn.RMSNorm(hd, 1e-6)
        s.q, s.k, s.v, s.o = nn.Linear(D, H * hd, False), nn.Linear(D, KV * hd, False), nn.Linear(D, KV * hd, False), nn.Linear(H * hd, D, False)
        s.g = nn.Linear(D, H * hd, False)

    def forward(s, h, cos, sin):
        q = rope(s.qn(s.q(h).view(B, T, H, hd)).transpose(1, 2), cos, sin)
        k = rope(s.kn(s.k(h).view(B, T, KV, hd)).transpose(1, 2), cos, sin)
        v = s.v(h).view(B, T, KV, hd).transpose(1, 2)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True).transpose(1, 2)
        return s.o((y * torch.sigmoid(s.g(h)).view(B, T, H, hd)).reshape(B, T, H * hd))


class DeltaNet(nn.Module):
    def __init__(s):
        super().__init__()
        s.c = (2 * NK + NV) * hd
        s.qkv, s.z, s.b, s.a = nn.Linear(D, s.c, False), nn.Linear(D, NV * hd, False), nn.Linear(D, NV, False), nn.Linear(D, NV, False)
        s.conv = nn.Conv1d(s.c, s.c, W, groups=s.c, padding=W - 1, bias=False)
        s.A_log, s.dt_bias = nn.Parameter(torch.empty(NV).uniform_(1e-3, 16).log()), nn.Parameter(torch.ones(NV))
        s.n, s.o = nn.RMSNorm(hd, 1e-6), nn.Linear(NV * hd, D, False)

    def forward(s, h, cos, sin):
        x = F.silu(s.conv(s.qkv(h).transpose(1, 2))[..., :T]).transpose(1, 2)
        q, k, v = x.split((NK * hd, NK * hd, NV * hd), -1)
        q, k, v = (y.reshape(B, T, -1, hd) for y in (q, k, v))
        q, k = (y.repeat_interleave(NV // NK, 2) for y in (q, k))
        g = -s.A_log.float().exp() * F.softplus(s.a(h).float() + s.dt_bias)
        y, _ = torch_chunk_gated_delta_rule(q, k, v, g=g, beta=torch.sigmoid(s.b(h)), initial_state=None, output_final_state=False,
                                            use_qk_l2norm_in_kernel=True)
        y = s.n(y.float()) * F.silu(s.z(h).float()).view(B, T, NV, hd)
        return s.o(y.to(h.dtype).reshape(B, T, NV * hd))


class Block(nn.Module):
    def __init__(s, mixer):
        super().__init__()
        s.n1, s.n2, s.m = nn.RMSNorm(D, 1e-6), nn.RMSNorm(D, 1e-6), mixer
        s.wg, s.wu, s.wd = nn.Linear(D, FF, False), nn.Linear(D, FF, False), nn.Linear(FF, D, False)

    def forward(s, x, cos, sin):
        x = x + s.m(s.n1(x), cos, sin)
        h = s.n2(x)
        return x + s.wd(F.silu(s.wg(h)) * s.wu(h))


class Model(nn.Module):
    def __init__(s):
        super().__init__()
        s.e, s.n = nn.Embedding(V, D), nn.RMSNorm(D, 1e-6)
        s.b = nn.ModuleList(Block(Attention() if i % 4 == 3 else DeltaNet()) for i in range(L))
        f = torch.outer(torch.arange(T).float(), 1e4 ** (-torch.arange(0, hd, 2).float() / hd))
        f = torch.cat((f, f), -1)
        s.register_buffer("cos", f.cos()); s.register_buffer("sin", f.sin())
        for p in s.parameters():
            if p.ndim > 1:
                nn.init.normal_(p, std=0.02)

    def forward(s, i, t):
        x = s.e(i)
        for b in s.b:
            x = b(x, s.cos.to(x.dtype), s.sin.to(x.dtype))
        return F.cross_entropy(F.linear(s.n(x), s.e.weight).float().view(-1, V), t.view(-1))


torch.manual_seed(0)
m = Model()
opt = torch.optim.AdamW(m.parameters(), lr=1e-3, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
f = torch.compile(m) if a.compile else m
ts, last = [], None


def step():
    global last
    i = torch.randint(0, V, (B, T))
    t0 = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=a.bf16):
        loss = f(i, i.roll(-1, 1))
    loss.backward()
    torch.nn.utils.clip_grad_norm_(m.parameters(), 1.0)
    opt.step(); opt.zero_grad()
    ts.append(time.perf_counter() - t0)
    last = loss.item()
    return ts[-1]


if a.turns:
    for _ in sys.stdin:
        print(f"{step():.6f}", flush=True)
else:
    for _ in range(a.steps + 2):
        step()
md, n = st.median(ts[2:] or ts), sum(p.numel() for p in m.parameters())
print(f"params {n / 1e6:.2f}M  {B * T / md:.0f} tokens/s  step {md * 1e3:.0f} ms  loss {last:.4f}  peak {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB")
