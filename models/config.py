"""What a decoder-only model is made of: the numbers that an architecture file and a tensor table need.

Nothing here validates what a user wrote; `saguaro.builder.checkpoint.config` does that and builds these.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class RopeScaling:
    """How the rotary frequencies are stretched. `kind` is "linear" or "llama3".

    Linear scaling uses `factor` alone; the other three belong to llama3.
    """

    kind: str
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position: int = 8192


@dataclass(frozen=True)
class ModelConfig:
    """One model's shape, with every default resolved (`num_kv_heads` and `head_dim` are never None)."""

    architecture: str  # the Hugging Face class: LlamaForCausalLM, MistralForCausalLM, Qwen2..., Qwen3...
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rms_norm_eps: float
    rope_theta: float
    rope_scaling: RopeScaling | None
    max_position_embeddings: int
    tie_word_embeddings: bool
    attention_bias: bool  # of q_proj, k_proj and v_proj
    attention_output_bias: bool  # of o_proj
    mlp_bias: bool
    qk_norm: bool  # an RMS norm over each head of q and k before the rotation (Qwen3)
    # Attention reaches this many positions back, or all of them when None. Within the window a sliding
    # model equals a full one, so the builder only has to refuse sequences longer than it.
    sliding_window: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types; `from_dict` gives back an equal config."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> ModelConfig:
        """The inverse of `to_dict`. Raises TypeError on an unknown or missing field."""
        scaling = values.get("rope_scaling")
        return cls(**{**values, "rope_scaling": None if scaling is None else RopeScaling(**scaling)})
