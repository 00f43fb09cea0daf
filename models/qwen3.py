"""Qwen 3 (Yang et al. 2025): an RMS norm over each head of q and k before the rotation."""

from __future__ import annotations

from typing import TypeVar

from saguaro.models.blocks import attend, gated_mlp, head, query_key_value
from saguaro.models.config import ModelConfig
from saguaro.models.operations import Operations

T = TypeVar("T")


def forward(ops: Operations[T], config: ModelConfig) -> T:
    """Float32 logits `[B, T, V]` of one step."""
    eps = config.rms_norm_eps
    x = ops.embedding("model.embed_tokens.weight")
    for layer in range(config.num_layers):
        name = f"model.layers.{layer}"
        q, k, v = query_key_value(ops, config, layer, ops.rms_norm(x, f"{name}.input_layernorm.weight", eps))
        q = ops.rms_norm(q, f"{name}.self_attn.q_norm.weight", eps)
        k = ops.rms_norm(k, f"{name}.self_attn.k_norm.weight", eps)
        x = ops.add(x, attend(ops, config, layer, ops.rope(q), ops.rope(k), v))
        x = ops.add(x, gated_mlp(ops, config, layer, ops.rms_norm(x, f"{name}.post_attention_layernorm.weight", eps)))
    return head(ops, config, x)
