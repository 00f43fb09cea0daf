"""parse_config and the RoPE frequencies against transformers' own classes, and what they refuse."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from checkpoint_samples import ARCHITECTURES, raw_config
from transformers import AutoConfig, AutoModelForCausalLM

from saguaro.builder.checkpoint.config import SUPPORTED, parse_config
from saguaro.builder.checkpoint.names import expected_tensors
from saguaro.models.config import ModelConfig, RopeScaling
from saguaro.models.rope import inverse_frequencies

LLAMA3 = {
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}
ROPES: dict[str, dict[str, Any]] = {
    "none": {"rope_theta": None},
    "theta": {"rope_theta": 500000.0},
    "linear, old type": {"rope_scaling": {"type": "linear", "factor": 2.0}},
    "linear, old rope_type": {"rope_theta": 1e6, "rope_scaling": {"rope_type": "linear", "factor": 4}},
    "linear, new": {
        "rope_theta": None,
        "rope_parameters": {"rope_type": "linear", "factor": 3.0, "rope_theta": 7e4},
    },
    "llama3, old": {"rope_theta": 500000.0, "rope_scaling": {"rope_type": "llama3", **LLAMA3}},
    "llama3, new": {
        "rope_theta": None,
        "rope_parameters": {"rope_type": "llama3", "rope_theta": 500000.0, **LLAMA3},
    },
    "default, new": {"rope_theta": None, "rope_parameters": {"rope_type": "default", "rope_theta": 31000.0}},
    "theta outside": {"rope_theta": 9000.0, "rope_parameters": {"rope_type": "default"}},
    "both": {
        "rope_theta": 6000.0,
        "rope_scaling": {"rope_type": "linear", "factor": 2.0},
        "rope_parameters": {"rope_type": "default", "rope_theta": 31000.0},
    },
}


def reference(raw: dict[str, Any]) -> Any:
    """The same config.json as transformers reads it (it edits its input, hence the copies)."""
    copy = {key: dict(value) if isinstance(value, dict) else value for key, value in raw.items()}
    return AutoConfig.for_model(copy.pop("model_type"), **copy)


def assert_agrees(ours: ModelConfig, theirs: Any) -> None:
    head_dim = getattr(theirs, "head_dim", None) or theirs.hidden_size // theirs.num_attention_heads
    assert ours.vocab_size == theirs.vocab_size
    assert ours.hidden_size == theirs.hidden_size
    assert ours.intermediate_size == theirs.intermediate_size
    assert ours.num_layers == theirs.num_hidden_layers
    assert ours.num_heads == theirs.num_attention_heads
    assert ours.num_kv_heads == theirs.num_key_value_heads
    assert ours.head_dim == head_dim
    assert ours.rms_norm_eps == theirs.rms_norm_eps
    assert ours.max_position_embeddings == theirs.max_position_embeddings
    assert ours.tie_word_embeddings == theirs.tie_word_embeddings
    assert ours.rope_theta == theirs.rope_parameters["rope_theta"]
    kind = theirs.rope_parameters["rope_type"]
    assert (ours.rope_scaling.kind if ours.rope_scaling else "default") == kind


@pytest.mark.parametrize("architecture", SUPPORTED)
def test_defaults_are_those_of_transformers(architecture: str) -> None:
    raw = {"architectures": [architecture], "model_type": ARCHITECTURES[architecture]}
    ours, theirs = parse_config(raw, "config.json"), reference(raw)
    assert_agrees(ours, theirs)
    assert ours.sliding_window == getattr(theirs, "sliding_window", None)


@pytest.mark.parametrize("rope", ROPES)
@pytest.mark.parametrize("architecture", SUPPORTED)
def test_rope_agrees_to_the_bit(architecture: str, rope: str) -> None:
    raw = raw_config(architecture, head_dim=16, **ROPES[rope])
    ours, theirs = parse_config(raw, "config.json"), reference(raw)
    assert_agrees(ours, theirs)
    with torch.device("cpu"):
        model = AutoModelForCausalLM.from_config(theirs)
    expected = model.model.rotary_emb.inv_freq
    assert torch.equal(inverse_frequencies(ours), expected)
    assert expected.shape == (8,)


def test_llama3_scaling_of_the_real_model_covers_all_three_bands() -> None:
    raw = raw_config(
        head_dim=64,
        max_position_embeddings=131072,
        rope_theta=500000.0,
        rope_scaling={
            **LLAMA3,
            "rope_type": "llama3",
            "factor": 32.0,
            "original_max_position_embeddings": 8192,
        },
    )
    ours = inverse_frequencies(parse_config(raw, "config.json"))
    plain = inverse_frequencies(parse_config({**raw, "rope_scaling": None}, "config.json"))
    ratio = plain / ours
    assert (ratio == 1).any()
    assert (ratio == 32).any()
    assert ((ratio > 1) & (ratio < 32)).any()
    model = AutoModelForCausalLM.from_config(reference(raw))
    assert torch.equal(ours, model.model.rotary_emb.inv_freq)


def test_llama3_without_original_length_takes_the_models() -> None:
    raw = raw_config(rope_scaling={"rope_type": "llama3", **LLAMA3})
    del raw["rope_scaling"]["original_max_position_embeddings"]
    assert parse_config(raw, "c").rope_scaling == RopeScaling("llama3", 8.0, 1.0, 4.0, 128)


VARIANTS: dict[str, dict[str, Any]] = {
    "plain": {},
    "tied": {"tie_word_embeddings": True},
    "biases": {"attention_bias": True, "mlp_bias": True},
    "no head_dim": {"head_dim": None},
    "no kv heads": {"num_key_value_heads": None, "num_attention_heads": 8},
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("architecture", SUPPORTED)
def test_tensor_names_and_shapes_are_transformers_own(architecture: str, variant: str) -> None:
    raw = raw_config(architecture, **VARIANTS[variant])
    if variant == "no kv heads" and architecture.startswith("Qwen"):
        raw["num_attention_heads"] = 32  # their default for num_key_value_heads
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(reference(raw))
    theirs = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    if raw["tie_word_embeddings"]:
        del theirs["lm_head.weight"]
    assert expected_tensors(parse_config(raw, "config.json")) == theirs


@pytest.mark.parametrize("architecture", SUPPORTED)
def test_round_trip_through_a_dict(architecture: str) -> None:
    import json

    raw = raw_config(architecture, rope_scaling={"rope_type": "llama3", **LLAMA3})
    config = parse_config(raw, "config.json")
    assert ModelConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    plain = parse_config(raw_config(architecture), "config.json")
    assert ModelConfig.from_dict(plain.to_dict()) == plain


@pytest.mark.parametrize(
    ("architecture", "changes", "window"),
    [
        ("LlamaForCausalLM", {"sliding_window": 64}, None),
        ("MistralForCausalLM", {"sliding_window": 64}, 64),
        ("Qwen2ForCausalLM", {"sliding_window": 64}, None),
        ("Qwen2ForCausalLM", {"sliding_window": 64, "use_sliding_window": True, "max_window_layers": 1}, 64),
        ("Qwen2ForCausalLM", {"sliding_window": 64, "use_sliding_window": True}, None),
        ("Qwen3ForCausalLM", {"sliding_window": 64, "use_sliding_window": True, "max_window_layers": 0}, 64),
        (
            "Qwen3ForCausalLM",
            {"sliding_window": 64, "use_sliding_window": True, "layer_types": ["full_attention"] * 2},
            None,
        ),
    ],
)
def test_sliding_window(architecture: str, changes: dict[str, Any], window: int | None) -> None:
    raw = raw_config(architecture, **changes)
    assert parse_config(raw, "config.json").sliding_window == window
    kinds = getattr(reference(raw), "layer_types", None)
    if kinds:
        assert ("sliding_attention" in kinds) == (window is not None)


def test_mistral_with_a_null_window_sees_everything() -> None:
    raw = raw_config("MistralForCausalLM")
    assert parse_config({**raw, "sliding_window": None}, "config.json").sliding_window is None


def test_architecture_follows_from_model_type_alone() -> None:
    raw = raw_config("Qwen3ForCausalLM", architectures=None)
    assert parse_config(raw, "config.json").architecture == "Qwen3ForCausalLM"


REFUSED: dict[str, tuple[dict[str, Any], list[str]]] = {
    "architecture": ({"architectures": ["GPT2LMHeadModel"]}, ["GPT2LMHeadModel", *SUPPORTED]),
    "architecture of the wrong type": ({"architectures": "LlamaForCausalLM"}, ["architectures", *SUPPORTED]),
    "two architectures": ({"architectures": ["LlamaForCausalLM"] * 2}, ["architectures"]),
    "contradicting model_type": ({"model_type": "qwen3"}, ["`model_type` is 'qwen3'", "'llama'"]),
    "string for a size": ({"hidden_size": "16"}, ["`hidden_size` is '16'", "integer"]),
    "float for a size": ({"hidden_size": 16.0}, ["hidden_size", "16.0"]),
    "bool for a size": ({"num_hidden_layers": True}, ["num_hidden_layers", "True"]),
    "negative": ({"intermediate_size": -1}, ["intermediate_size", "-1"]),
    "zero": ({"vocab_size": 0}, ["vocab_size", "0"]),
    "terabytes": ({"intermediate_size": 2**40}, ["intermediate_size", str(2**40)]),
    "too many layers": ({"num_hidden_layers": 1025}, ["num_hidden_layers", "1024"]),
    "heads": ({"num_key_value_heads": 3}, ["`num_key_value_heads` is 3", "4"]),
    "odd head_dim": ({"head_dim": 7}, ["`head_dim` is 7", "even"]),
    "indivisible hidden size": ({"head_dim": None, "hidden_size": 18}, ["`hidden_size` is 18", "4"]),
    "wide heads": ({"head_dim": 2**20}, ["head_dim", "1048576"]),
    "activation": ({"hidden_act": "gelu"}, ["`hidden_act` is 'gelu'", "silu"]),
    "NaN": ({"rms_norm_eps": float("nan")}, ["rms_norm_eps", "nan"]),
    "infinity": ({"rope_theta": float("inf")}, ["rope_theta", "inf"]),
    "huge integer for a number": ({"rope_theta": 10**400}, ["rope_theta"]),
    "flag": ({"tie_word_embeddings": 1}, ["`tie_word_embeddings` is 1", "true or false"]),
    "quantised": ({"quantization_config": {"quant_method": "gptq"}}, ["quantization_config", "gptq"]),
    "yarn": (
        {"rope_scaling": {"rope_type": "yarn", "factor": 4.0}},
        ["rope_scaling.rope_type", "yarn", "llama3"],
    ),
    "dynamic": ({"rope_scaling": {"type": "dynamic", "factor": 4.0}}, ["rope_scaling.type", "dynamic"]),
    "longrope": ({"rope_parameters": {"rope_type": "longrope"}}, ["rope_parameters.rope_type", "longrope"]),
    "rope kind of the wrong type": ({"rope_scaling": {"type": ["linear"]}}, ["rope_scaling.type"]),
    "rope without factor": ({"rope_scaling": {"type": "linear"}}, ["`rope_scaling.factor` is missing"]),
    "rope factor": ({"rope_scaling": {"type": "linear", "factor": -2}}, ["rope_scaling.factor", "-2"]),
    "rope of the wrong type": ({"rope_scaling": [1]}, ["`rope_scaling` is [1]"]),
    "llama3 bands": (
        {"rope_scaling": {"rope_type": "llama3", **LLAMA3, "high_freq_factor": 1.0}},
        ["rope_scaling.high_freq_factor"],
    ),
    "rope by layer": ({"rope_parameters": {"full_attention": {"rope_type": "default"}}}, ["full_attention"]),
    "partial rotation": ({"partial_rotary_factor": 0.5}, ["partial_rotary_factor", "0.5"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_file_field_and_value(case: str, refused: Any) -> None:
    changes, parts = REFUSED[case]
    refused(["some/config.json", *parts], parse_config, raw_config(**changes), "some/config.json")


def test_long_and_unprintable_values_are_quoted_short(refused: Any) -> None:
    sentence = refused(["hidden_act"], parse_config, raw_config(hidden_act="\n\ud800" * 10_000), "c")
    sentence.encode()
