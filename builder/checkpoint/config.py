"""config.json -> ModelConfig, with the meaning that transformers' config classes give to every field."""

from __future__ import annotations

from typing import Any

from saguaro.builder.checkpoint.fields import Fields
from saguaro.builder.checkpoint.rope import parse_rope
from saguaro.models.config import ModelConfig

# What transformers' config classes assume where config.json is silent. A `head_dim` or `num_key_value_heads`
# of None means "derived from the others".
_DEFAULTS: dict[str, dict[str, Any]] = {
    "LlamaForCausalLM": {
        "model_type": "llama",
        "vocab_size": 32000,
        "intermediate_size": 11008,
        "num_key_value_heads": None,
        "head_dim": None,
        "max_position_embeddings": 2048,
        "eos_token_id": 2,
    },
    "MistralForCausalLM": {
        "model_type": "mistral",
        "vocab_size": 32000,
        "intermediate_size": 14336,
        "num_key_value_heads": 8,
        "head_dim": None,
        "max_position_embeddings": 131072,
        "sliding_window": 4096,
        "eos_token_id": 2,
    },
    "Qwen2ForCausalLM": {
        "model_type": "qwen2",
        "vocab_size": 151936,
        "intermediate_size": 22016,
        "num_key_value_heads": 32,
        "head_dim": None,
        "max_position_embeddings": 32768,
        "sliding_window": 4096,
        "eos_token_id": None,
    },
    "Qwen3ForCausalLM": {
        "model_type": "qwen3",
        "vocab_size": 151936,
        "intermediate_size": 22016,
        "num_key_value_heads": 32,
        "head_dim": 128,
        "max_position_embeddings": 32768,
        "sliding_window": 4096,
        "eos_token_id": None,
    },
}
SUPPORTED = tuple(_DEFAULTS)

# A damaged or hostile config must not make anyone allocate or count to its numbers. The largest open models
# stay far below these.
MAX_DIMENSION = 2**20
MAX_LAYERS = 1024
MAX_POSITIONS = 2**26


def parse_config(raw: dict[str, Any], source: str) -> ModelConfig:
    """The model that the parsed config.json `raw` describes; `source` names the file in errors.

    Raises CheckpointError for an unsupported architecture, activation, RoPE kind or quantisation, and for a
    field of the wrong type or out of range. Absent fields take transformers' defaults for the architecture.
    """
    fields = Fields(raw, source)
    architecture = _architecture(fields)
    default = _DEFAULTS[architecture]
    _refuse_what_changes_the_arithmetic(fields)

    def dimension(key: str, fallback: int) -> int:
        return fields.integer(key, fallback, MAX_DIMENSION)

    hidden_size = dimension("hidden_size", 4096)
    num_heads = dimension("num_attention_heads", 32)
    kv_key = "num_key_value_heads"
    num_kv_heads = fields.optional_integer(kv_key, default[kv_key], MAX_DIMENSION) or num_heads
    if num_heads % num_kv_heads:
        raise fields.wrong(kv_key, f"a divisor of num_attention_heads, {num_heads}")
    positions_key = "max_position_embeddings"
    max_positions = fields.integer(positions_key, default[positions_key], MAX_POSITIONS)
    rope_theta, rope_scaling = parse_rope(fields, max_positions)
    llama, qwen2 = architecture == "LlamaForCausalLM", architecture == "Qwen2ForCausalLM"
    # Mistral has no biases and Qwen2 has QKV biases, whatever their files say; transformers reads neither.
    bias = fields.flag("attention_bias", False) if llama or architecture == "Qwen3ForCausalLM" else False
    return ModelConfig(
        architecture=architecture,
        vocab_size=dimension("vocab_size", default["vocab_size"]),
        hidden_size=hidden_size,
        intermediate_size=dimension("intermediate_size", default["intermediate_size"]),
        num_layers=fields.integer("num_hidden_layers", 32, MAX_LAYERS),
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_dim=_head_dim(fields, default["head_dim"], hidden_size, num_heads),
        rms_norm_eps=fields.number("rms_norm_eps", 1e-6, 1.0),
        rope_theta=rope_theta,
        rope_scaling=rope_scaling,
        max_position_embeddings=max_positions,
        tie_word_embeddings=fields.flag("tie_word_embeddings", False),
        attention_bias=bias or qwen2,
        attention_output_bias=bias,
        mlp_bias=fields.flag("mlp_bias", False) if llama else False,
        qk_norm=architecture == "Qwen3ForCausalLM",
        sliding_window=_sliding_window(fields, architecture, default.get("sliding_window")),
    )


def default_eos(config: ModelConfig) -> int | None:
    """The end token that transformers assumes when neither JSON file names one."""
    eos: int | None = _DEFAULTS[config.architecture]["eos_token_id"]
    return eos


def _architecture(fields: Fields) -> str:
    """The one supported class named in `architectures`, or, without that field, meant by `model_type`."""
    supported = f"one of {', '.join(SUPPORTED)}"
    advice = "choose a checkpoint of one of these"
    model_type = fields.raw.get("model_type")
    named = fields.raw.get("architectures")
    if named is None:
        for architecture, default in _DEFAULTS.items():
            if default["model_type"] == model_type:
                return architecture
        raise fields.wrong("model_type" if "model_type" in fields.raw else "architectures", supported, advice)
    if not isinstance(named, list) or len(named) != 1 or named[0] not in SUPPORTED:
        raise fields.wrong("architectures", supported, advice)
    expected = _DEFAULTS[named[0]]["model_type"]
    if model_type not in (None, expected):
        raise fields.wrong("model_type", f"{expected!r}, which goes with {named[0]}")
    return str(named[0])


def _refuse_what_changes_the_arithmetic(fields: Fields) -> None:
    if fields.raw.get("quantization_config") is not None:
        raise fields.wrong(
            "quantization_config",
            "none, since quantised checkpoints are not supported",
            "use the fp32, fp16 or bf16 checkpoint that this one was quantised from",
        )
    if fields.raw.get("hidden_act", "silu") not in ("silu", "swish"):
        raise fields.wrong("hidden_act", "'silu'", "other activations are not supported")


def _head_dim(fields: Fields, default: int | None, hidden_size: int, num_heads: int) -> int:
    head_dim = fields.optional_integer("head_dim", default, MAX_DIMENSION)
    if head_dim is None:
        if hidden_size % num_heads:
            raise fields.wrong("hidden_size", f"a multiple of num_attention_heads, {num_heads}")
        head_dim = hidden_size // num_heads
    if head_dim % 2:
        raise fields.wrong("head_dim", f"an even number (it comes to {head_dim}), since RoPE turns pairs")
    if head_dim * num_heads > MAX_DIMENSION:
        raise fields.wrong("head_dim", f"head_dim * num_attention_heads of at most {MAX_DIMENSION}")
    return head_dim


def _sliding_window(fields: Fields, architecture: str, default: int | None) -> int | None:
    """The narrowest window of any layer, None when every layer sees everything."""
    if architecture == "LlamaForCausalLM":
        return None
    if architecture == "MistralForCausalLM":
        return fields.optional_integer("sliding_window", default, MAX_POSITIONS)
    if not fields.flag("use_sliding_window", False):
        return None
    layer_types = fields.raw.get("layer_types")
    if layer_types is not None:
        known = ("full_attention", "sliding_attention")
        if not isinstance(layer_types, list) or not all(kind in known for kind in layer_types):
            raise fields.wrong("layer_types", "a list of 'full_attention' and 'sliding_attention'")
        slides = "sliding_attention" in layer_types
    else:
        full_layers = fields.raw.get("max_window_layers", 28)
        if type(full_layers) is not int:
            raise fields.wrong("max_window_layers", "an integer")
        slides = fields.integer("num_hidden_layers", 32, MAX_LAYERS) > full_layers
    return fields.optional_integer("sliding_window", default, MAX_POSITIONS) if slides else None
