"""Which tensors an engine is made of, and which tensors of the checkpoint each is put together from.

Fusing q/k/v and gate/up makes one matrix product of several; it is done once, when an engine is built or loaded.
"""

from __future__ import annotations

from dataclasses import dataclass

from saguaro.models.config import ModelConfig


@dataclass(frozen=True)
class EngineWeight:
    """`parts` are checkpoint names, concatenated along axis 0 into a tensor of `shape`."""

    parts: tuple[str, ...]
    shape: tuple[int, ...]


def engine_weights(config: ModelConfig) -> dict[str, EngineWeight]:
    """Every weight that the architecture's `forward` names, in the order of the forward pass."""
    c, d = config.hidden_size, config.head_dim
    q, kv, mlp = config.num_heads * d, config.num_kv_heads * d, config.intermediate_size
    weights: dict[str, EngineWeight] = {}

    def put(name: str, shape: tuple[int, ...], parts: tuple[str, ...] | None = None) -> None:
        weights[name] = EngineWeight(parts or (name,), shape)

    put("model.embed_tokens.weight", (config.vocab_size, c))
    for layer in range(config.num_layers):
        prefix = f"model.layers.{layer}"
        attention, feed = f"{prefix}.self_attn", f"{prefix}.mlp"
        qkv = [f"{attention}.{name}_proj" for name in "qkv"]
        gate_up = [f"{feed}.{name}_proj" for name in ("gate", "up")]
        put(f"{prefix}.input_layernorm.weight", (c,))
        put(f"{attention}.qkv_proj.weight", (q + 2 * kv, c), tuple(f"{p}.weight" for p in qkv))
        if config.attention_bias:
            put(f"{attention}.qkv_proj.bias", (q + 2 * kv,), tuple(f"{p}.bias" for p in qkv))
        if config.qk_norm:
            put(f"{attention}.q_norm.weight", (d,))
            put(f"{attention}.k_norm.weight", (d,))
        put(f"{attention}.o_proj.weight", (c, q))
        if config.attention_output_bias:
            put(f"{attention}.o_proj.bias", (c,))
        put(f"{prefix}.post_attention_layernorm.weight", (c,))
        put(f"{feed}.gate_up_proj.weight", (2 * mlp, c), tuple(f"{p}.weight" for p in gate_up))
        put(f"{feed}.down_proj.weight", (c, mlp))
        if config.mlp_bias:
            put(f"{feed}.gate_up_proj.bias", (2 * mlp,), tuple(f"{p}.bias" for p in gate_up))
            put(f"{feed}.down_proj.bias", (c,))
    put("model.norm.weight", (c,))
    tied = ("model.embed_tokens.weight",) if config.tie_word_embeddings else None
    put("lm_head.weight", (config.vocab_size, c), tied)
    return weights
