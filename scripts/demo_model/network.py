"""The Llama architecture in plain torch: RMS norm, grouped-query attention with rotary positions, SwiGLU.

Rotary pairs are neighbours (2i, 2i+1), which is the layout GGUF stores for `llama`, so q and k need no permutation at export.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    n_vocab: int = 512
    n_embd: int = 256
    n_layers: int = 4
    n_heads: int = 4
    n_kv_heads: int = 2
    n_ff: int = 512
    n_ctx: int = 2048
    rope_base: float = 10000.0
    norm_eps: float = 1e-5

    @property
    def head_dim(self) -> int:
        return self.n_embd // self.n_heads


class Block(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        kv = shape.n_kv_heads * shape.head_dim
        self.attn_norm = nn.Parameter(torch.ones(shape.n_embd))
        self.attn_q = nn.Linear(shape.n_embd, shape.n_embd, bias=False)
        self.attn_k = nn.Linear(shape.n_embd, kv, bias=False)
        self.attn_v = nn.Linear(shape.n_embd, kv, bias=False)
        self.attn_output = nn.Linear(shape.n_embd, shape.n_embd, bias=False)
        self.ffn_norm = nn.Parameter(torch.ones(shape.n_embd))
        self.ffn_gate = nn.Linear(shape.n_embd, shape.n_ff, bias=False)
        self.ffn_up = nn.Linear(shape.n_embd, shape.n_ff, bias=False)
        self.ffn_down = nn.Linear(shape.n_ff, shape.n_embd, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        shape, (batch, length, _) = self.shape, x.shape
        normed = functional.rms_norm(x, (shape.n_embd,), self.attn_norm, shape.norm_eps)
        q = rotate(self.attn_q(normed).view(batch, length, shape.n_heads, -1).transpose(1, 2), cos, sin)
        k = rotate(self.attn_k(normed).view(batch, length, shape.n_kv_heads, -1).transpose(1, 2), cos, sin)
        v = self.attn_v(normed).view(batch, length, shape.n_kv_heads, -1).transpose(1, 2)
        repeat = shape.n_heads // shape.n_kv_heads
        k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_output(mixed.transpose(1, 2).reshape(batch, length, -1))
        normed = functional.rms_norm(x, (shape.n_embd,), self.ffn_norm, shape.norm_eps)
        return x + self.ffn_down(functional.silu(self.ffn_gate(normed)) * self.ffn_up(normed))


class Network(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.n_vocab, shape.n_embd)
        self.blk = nn.ModuleList(Block(shape) for _ in range(shape.n_layers))
        self.output_norm = nn.Parameter(torch.ones(shape.n_embd))
        self.output = nn.Linear(shape.n_embd, shape.n_vocab, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                depth = (2 * shape.n_layers) ** -0.5 if name.endswith(("attn_output.weight", "ffn_down.weight")) else 1.0
                nn.init.normal_(parameter, std=depth * (0.02 if "embd" in name else shape.n_embd**-0.5))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits `[batch, length, n_vocab]` of token ids `[batch, length]`."""
        cos, sin = self._angles(ids.shape[1])
        x = self.token_embd(ids)
        for block in self.blk:
            x = block(x, cos, sin)
        return self.output(functional.rms_norm(x, (self.shape.n_embd,), self.output_norm, self.shape.norm_eps))

    def _angles(self, length: int) -> tuple[torch.Tensor, torch.Tensor]:
        half = torch.arange(0, self.shape.head_dim, 2, dtype=torch.float32) / self.shape.head_dim
        angles = torch.outer(torch.arange(length, dtype=torch.float32), self.shape.rope_base**-half)
        return angles.cos(), angles.sin()


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    even, odd = x[..., 0::2].float(), x[..., 1::2].float()
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2).to(x.dtype)
