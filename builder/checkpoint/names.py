"""Which tensors a checkpoint has to hold: Hugging Face names and shapes, from the configuration alone."""

from __future__ import annotations

from saguaro.models.config import ModelConfig


def expected_tensors(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    """Name to shape, in the order of computation; a weight is [out, in]. `lm_head.weight` unless tied."""
    hidden = config.hidden_size
    tensors: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (config.vocab_size, hidden)}
    layer = _layer_tensors(config)
    for index in range(config.num_layers):
        tensors.update({f"model.layers.{index}.{name}": shape for name, shape in layer.items()})
    tensors["model.norm.weight"] = (hidden,)
    if not config.tie_word_embeddings:
        tensors["lm_head.weight"] = (config.vocab_size, hidden)
    return tensors


def _layer_tensors(config: ModelConfig) -> dict[str, tuple[int, ...]]:
    hidden, inner = config.hidden_size, config.intermediate_size
    query, key_value = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    tensors: dict[str, tuple[int, ...]] = {"input_layernorm.weight": (hidden,)}

    def linear(name: str, out_features: int, in_features: int, bias: bool) -> None:
        tensors[f"{name}.weight"] = (out_features, in_features)
        if bias:
            tensors[f"{name}.bias"] = (out_features,)

    linear("self_attn.q_proj", query, hidden, config.attention_bias)
    linear("self_attn.k_proj", key_value, hidden, config.attention_bias)
    linear("self_attn.v_proj", key_value, hidden, config.attention_bias)
    if config.qk_norm:
        tensors["self_attn.q_norm.weight"] = (config.head_dim,)
        tensors["self_attn.k_norm.weight"] = (config.head_dim,)
    linear("self_attn.o_proj", hidden, query, config.attention_output_bias)
    tensors["post_attention_layernorm.weight"] = (hidden,)
    linear("mlp.gate_proj", inner, hidden, config.mlp_bias)
    linear("mlp.up_proj", inner, hidden, config.mlp_bias)
    linear("mlp.down_proj", hidden, inner, config.mlp_bias)
    return tensors
