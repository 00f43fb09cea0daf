"""A Llama decoder for training: fp32 master weights, bf16 arithmetic where the CPU has it, names as in transformers.

The names are those of `LlamaForCausalLM`, so exporting is only a change of type.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEAD_SIZE = 64
ROPE_THETA = 10000.0
NORM_EPS = 1e-5
LONGEST = 2048
ARITHMETIC = torch.bfloat16 if torch.cpu._is_avx512_bf16_supported() else torch.float32


@dataclass(frozen=True)
class Shape:
    """The sizes of one model."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int = 4096


TARGET = Shape(hidden=384, layers=8, heads=6, kv_heads=2, intermediate=1152)
DRAFT = Shape(hidden=192, layers=4, heads=3, kv_heads=1, intermediate=512)


class Linear(nn.Module):
    """`x W^T` in x's type; the weight itself stays fp32."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) * inputs**-0.5)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.to(x.dtype))


class RmsNorm(nn.Module):
    """Root-mean-square norm, computed in fp32."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x: Tensor) -> Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + NORM_EPS)
        return (wide * self.weight).to(x.dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding, halves convention; x is [B, H, T, D]."""
    first, second = x.chunk(2, -1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


def causal_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attention by two plain products: on a CPU its backward pass is far quicker than the fused one."""
    scores = q @ k.transpose(-1, -2) * HEAD_SIZE**-0.5
    length = q.shape[2]
    seen = torch.ones(length, length, dtype=torch.bool).tril()
    return scores.masked_fill(~seen, float("-inf")).softmax(-1) @ v


class Attention(nn.Module):
    """Causal attention with grouped key/value heads."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads, self.kv_heads = shape.heads, shape.kv_heads
        self.q_proj = Linear(shape.hidden, shape.heads * HEAD_SIZE)
        self.k_proj = Linear(shape.hidden, shape.kv_heads * HEAD_SIZE)
        self.v_proj = Linear(shape.hidden, shape.kv_heads * HEAD_SIZE)
        self.o_proj = Linear(shape.heads * HEAD_SIZE, shape.hidden)
        nn.init.zeros_(self.o_proj.weight)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: Tensor | None, start: int) -> Tensor:
        batch, length, _ = x.shape
        group = self.heads // self.kv_heads
        q = self.q_proj(x).view(batch, length, self.heads, HEAD_SIZE).transpose(1, 2)
        k = self.k_proj(x).view(batch, length, self.kv_heads, HEAD_SIZE).transpose(1, 2)
        v = self.v_proj(x).view(batch, length, self.kv_heads, HEAD_SIZE).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if cache is not None:
            cache[0, :, :, start : start + length] = k
            cache[1, :, :, start : start + length] = v
        if cache is not None and length == 1:
            # One query sees all rows: the heads of a group become query rows and need no mask.
            q = q.reshape(batch, self.kv_heads, group, HEAD_SIZE)
            mixed = F.scaled_dot_product_attention(
                q, cache[0, :, :, : start + 1], cache[1, :, :, : start + 1]
            ).reshape(batch, self.heads, 1, HEAD_SIZE)
        else:
            k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
            mixed = causal_attention(q, k, v)
        return self.o_proj(mixed.transpose(1, 2).reshape(batch, length, -1))


class Mlp(nn.Module):
    """SwiGLU."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = Linear(shape.hidden, shape.intermediate)
        self.up_proj = Linear(shape.hidden, shape.intermediate)
        self.down_proj = Linear(shape.intermediate, shape.hidden)
        nn.init.zeros_(self.down_proj.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    """One decoder layer."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = RmsNorm(shape.hidden)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = RmsNorm(shape.hidden)
        self.mlp = Mlp(shape)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor, cache: Tensor | None, start: int) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, cache, start)
        return x + self.mlp(self.post_attention_layernorm(x))


class Body(nn.Module):
    """Embedding, layers and last norm."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        nn.init.normal_(self.embed_tokens.weight, std=0.02)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = RmsNorm(shape.hidden)


class Llama(nn.Module):
    """The whole model; the output matrix is the embedding."""

    def __init__(self, shape: Shape, dtype: torch.dtype = ARITHMETIC) -> None:
        super().__init__()
        self.shape, self.dtype = shape, dtype
        self.model = Body(shape)
        frequencies = ROPE_THETA ** -(torch.arange(0, HEAD_SIZE, 2).double() / HEAD_SIZE)
        angles = torch.outer(torch.arange(LONGEST).double(), frequencies)
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)

    def hidden(self, tokens: Tensor, cache: Tensor | None = None, start: int = 0) -> Tensor:
        """Normed last hidden states of `tokens` ([B, T]); with a cache, of a continuation at `start`."""
        length = tokens.shape[1]
        cos = self.cos[start : start + length].to(self.dtype)
        sin = self.sin[start : start + length].to(self.dtype)
        x = F.embedding(tokens, self.model.embed_tokens.weight).to(self.dtype)
        for index, layer in enumerate(self.model.layers):
            x = layer(x, cos, sin, None if cache is None else cache[index], start)
        return self.model.norm(x)

    def head(self, hidden: Tensor) -> Tensor:
        """Hidden states to logits."""
        return F.linear(hidden, self.model.embed_tokens.weight.to(hidden.dtype))

    def forward(self, tokens: Tensor, cache: Tensor | None = None, start: int = 0) -> Tensor:
        """Logits [B, T, V]; a prompt with a cache must start at row 0, later calls take one token."""
        return self.head(self.hidden(tokens, cache, start))

    def new_cache(self, batch: int, rows: int) -> Tensor:
        """An empty cache: [layers, key/value, B, H_kv, rows, D]."""
        shape = (self.shape.layers, 2, batch, self.shape.kv_heads, rows, HEAD_SIZE)
        return torch.zeros(shape, dtype=self.dtype)
