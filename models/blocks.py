"""The pieces that the architectures share: fused projections, attention's ends, the gated MLP, the head."""

from __future__ import annotations

from typing import TypeVar

from saguaro.models.config import ModelConfig
from saguaro.models.operations import Operations

T = TypeVar("T")


def query_key_value(ops: Operations[T], config: ModelConfig, layer: int, x: T) -> tuple[T, T, T]:
    """One fused projection, cut into heads: q with `num_heads`, k and v with `num_kv_heads`."""
    name = f"model.layers.{layer}.self_attn.qkv_proj"
    fused = ops.linear(x, f"{name}.weight", f"{name}.bias" if config.attention_bias else None)
    width, kv_width = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    q, k, v = ops.split(fused, [width, kv_width, kv_width])
    return (
        ops.split_heads(q, config.num_heads, config.head_dim),
        ops.split_heads(k, config.num_kv_heads, config.head_dim),
        ops.split_heads(v, config.num_kv_heads, config.head_dim),
    )


def attend(ops: Operations[T], config: ModelConfig, layer: int, q: T, k: T, v: T) -> T:
    """Write k and v into the cache, attend to it, project back: hidden `[B, T, C]`."""
    keys, values = ops.kv_update(layer, k, v)
    name = f"model.layers.{layer}.self_attn.o_proj"
    bias = f"{name}.bias" if config.attention_output_bias else None
    return ops.linear(ops.merge_heads(ops.attention(q, keys, values)), f"{name}.weight", bias)


def gated_mlp(ops: Operations[T], config: ModelConfig, layer: int, x: T) -> T:
    """`down(silu(gate(x)) * up(x))`, gate and up in one fused projection."""
    name = f"model.layers.{layer}.mlp"
    fused = ops.linear(x, f"{name}.gate_up_proj.weight", f"{name}.gate_up_proj.bias" if config.mlp_bias else None)
    gate, up = ops.split(fused, [config.intermediate_size, config.intermediate_size])
    bias = f"{name}.down_proj.bias" if config.mlp_bias else None
    return ops.linear(ops.mul(ops.silu(gate), up), f"{name}.down_proj.weight", bias)


def head(ops: Operations[T], config: ModelConfig, x: T) -> T:
    """The last norm and the vocabulary: float32 logits `[B, T, V]`."""
    return ops.logits(ops.linear(ops.rms_norm(x, "model.norm.weight", config.rms_norm_eps), "lm_head.weight"))
