"""A checkpoint as a whole: what opens, and one sentence for each way in which its parts do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_samples import raw_config, read_index, write_checkpoint, write_index
from transformers import AutoConfig, AutoModelForCausalLM

from saguaro.builder.checkpoint import open_checkpoint
from saguaro.builder.checkpoint.config import SUPPORTED


@pytest.mark.parametrize("architecture", SUPPORTED)
@pytest.mark.parametrize("size", ["1GB", "20KB"])
def test_what_transformers_saves_opens_with_the_same_tensors(
    tmp_path: Path, architecture: str, size: str
) -> None:
    raw = raw_config(architecture)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(raw.pop("model_type"), **raw))
    model.save_pretrained(tmp_path, max_shard_size=size)
    checkpoint = open_checkpoint(str(tmp_path))
    assert (len(checkpoint.tensors.files()) > 1) == (size == "20KB")
    assert checkpoint.config.architecture == architecture
    assert checkpoint.config.rope_theta == 10000.0
    assert sorted(checkpoint.tensors.names()) == sorted(model.state_dict())
    for name, tensor in model.state_dict().items():
        assert torch.equal(checkpoint.tensors.get(name), tensor)


def test_relative_to_a_base(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "models" / "target")
    checkpoint = open_checkpoint("../models/target", tmp_path / "models")
    assert checkpoint.path.samefile(tmp_path / "models" / "target")
    assert open_checkpoint(
        str(tmp_path / "models" / "target"), Path("/elsewhere")
    ).generation.eos_token_ids == [2]


def test_missing_path(tmp_path: Path, refused: Any) -> None:
    refused([tmp_path / "nowhere", "no such directory"], open_checkpoint, str(tmp_path / "nowhere"))
    refused([tmp_path / "here", "no such directory"], open_checkpoint, "./here", tmp_path)


def test_a_file_instead_of_a_directory(tmp_path: Path, refused: Any) -> None:
    write_checkpoint(tmp_path)
    refused([tmp_path / "config.json", "directory"], open_checkpoint, str(tmp_path / "config.json"))


def test_directory_that_is_no_checkpoint(tmp_path: Path, refused: Any) -> None:
    (tmp_path / "readme.txt").write_text("hello")
    refused([tmp_path, "config.json"], open_checkpoint, str(tmp_path))


def test_no_weights(tmp_path: Path, refused: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps(raw_config()))
    refused([tmp_path, "model.safetensors"], open_checkpoint, str(tmp_path))


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"a": 1, "a": 1}', "[" * 100_000, "\ufeff{}"])
def test_config_that_is_no_json_object(tmp_path: Path, text: str, refused: Any) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(text)
    refused([tmp_path / "config.json"], open_checkpoint, str(tmp_path))


def test_config_that_is_too_large_is_not_read(tmp_path: Path, refused: Any) -> None:
    write_checkpoint(tmp_path)
    with (tmp_path / "config.json").open("ab") as file:
        file.truncate(10 * 2**30)
    refused([tmp_path / "config.json", "too large"], open_checkpoint, str(tmp_path))


def test_unknown_architecture_names_the_supported_ones(tmp_path: Path, refused: Any) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(raw_config("GemmaForCausalLM")))
    refused([tmp_path / "config.json", "GemmaForCausalLM", *SUPPORTED], open_checkpoint, str(tmp_path))


def test_tensor_missing_from_the_file_or_the_index(tmp_path: Path, refused: Any) -> None:
    name = "model.layers.1.mlp.up_proj.weight"
    tensors = write_checkpoint(tmp_path / "a")
    del tensors[name]
    write_checkpoint(tmp_path / "a", tensors=tensors)
    refused([tmp_path / "a" / "model.safetensors", name, "[24, 16]"], open_checkpoint, str(tmp_path / "a"))
    write_checkpoint(tmp_path / "b", shards=2)
    weight_map = read_index(tmp_path / "b")
    del weight_map[name]
    write_index(tmp_path / "b", weight_map)
    index = tmp_path / "b" / "model.safetensors.index.json"
    refused([index, name], open_checkpoint, str(tmp_path / "b"))


def test_shard_missing_from_the_index(tmp_path: Path, refused: Any) -> None:
    write_checkpoint(tmp_path, shards=2)
    first = {n: s for n, s in read_index(tmp_path).items() if s.startswith("model-00001")}
    write_index(tmp_path, first)
    refused([tmp_path / "model.safetensors.index.json", "missing"], open_checkpoint, str(tmp_path))


def test_wrong_shape(tmp_path: Path, refused: Any) -> None:
    name = "model.layers.0.self_attn.k_proj.weight"
    tensors = write_checkpoint(tmp_path)
    write_checkpoint(tmp_path, tensors={**tensors, name: torch.zeros(16, 17)})
    refused([tmp_path / "model.safetensors", name, "[16, 17]", "[16, 16]"], open_checkpoint, str(tmp_path))


def test_wrong_type(tmp_path: Path, refused: Any) -> None:
    tensors = write_checkpoint(tmp_path)
    name = "model.norm.weight"
    write_checkpoint(tmp_path, tensors={**tensors, name: torch.zeros(16, dtype=torch.int64)})
    refused([tmp_path / "model.safetensors", name, "I64"], open_checkpoint, str(tmp_path))


def test_truncated_weights(tmp_path: Path, refused: Any) -> None:
    write_checkpoint(tmp_path)
    file = tmp_path / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-100])
    refused([file, "truncated"], open_checkpoint, str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "leftover"),
    [
        ({"num_hidden_layers": 1}, "model.layers.1."),
        ({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}, "bias"),
    ],
)
def test_config_of_a_smaller_model(
    tmp_path: Path, changes: dict[str, Any], leftover: str, refused: Any
) -> None:
    """It would load, run and be wrong: layers or biases would silently be left out."""
    raw = raw_config("Qwen2ForCausalLM")
    write_checkpoint(tmp_path, raw)
    (tmp_path / "config.json").write_text(json.dumps({**raw, **changes}))
    refused([tmp_path / "model.safetensors", leftover, "no place"], open_checkpoint, str(tmp_path))


def test_harmless_extra_tensors_are_ignored(tmp_path: Path) -> None:
    tensors = write_checkpoint(tmp_path)
    extra = {
        "model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4),
        "value_head.bias": torch.arange(2),
    }
    write_checkpoint(tmp_path, tensors={**tensors, **extra})
    assert open_checkpoint(str(tmp_path)).config.num_layers == 2


def test_tied_embeddings(tmp_path: Path, refused: Any) -> None:
    raw = raw_config(tie_word_embeddings=True)
    tensors = write_checkpoint(tmp_path, raw)
    assert "lm_head.weight" not in tensors
    assert open_checkpoint(str(tmp_path)).config.tie_word_embeddings
    copy = tensors["model.embed_tokens.weight"].clone()
    write_checkpoint(tmp_path, raw, {**tensors, "lm_head.weight": copy})
    assert open_checkpoint(str(tmp_path)).config.tie_word_embeddings
    write_checkpoint(tmp_path, raw, {**tensors, "lm_head.weight": copy + 1})
    refused(["lm_head.weight", "tie_word_embeddings"], open_checkpoint, str(tmp_path))
    write_checkpoint(tmp_path, raw_config(), tensors)
    refused(["lm_head.weight", "missing"], open_checkpoint, str(tmp_path))


EOS: dict[str, tuple[dict[str, Any], dict[str, Any] | None, list[int]]] = {
    "config alone": ({"eos_token_id": 5}, None, [5]),
    "config list": ({"eos_token_id": [5, 6, 5]}, None, [5, 6]),
    "generation wins": ({"eos_token_id": 5}, {"eos_token_id": [7, 8]}, [7, 8]),
    "generation int": ({"eos_token_id": 5}, {"eos_token_id": 7, "temperature": 0.6}, [7]),
    "generation silent": ({"eos_token_id": 5}, {"temperature": 0.6}, [5]),
    "nothing": ({"eos_token_id": None}, None, [2]),  # LlamaConfig's default
}


@pytest.mark.parametrize("case", EOS)
def test_end_tokens(tmp_path: Path, case: str) -> None:
    changes, generation, expected = EOS[case]
    write_checkpoint(tmp_path, raw_config(**changes))
    if generation is not None:
        (tmp_path / "generation_config.json").write_text(json.dumps(generation))
    assert open_checkpoint(str(tmp_path)).generation.eos_token_ids == expected


def test_end_token_null_means_none(tmp_path: Path) -> None:
    write_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**raw_config(), "eos_token_id": None}))
    assert open_checkpoint(str(tmp_path)).generation.eos_token_ids == []


@pytest.mark.parametrize("value", ["2", 2.0, True, [2, None], -1, 300, {}])
def test_end_tokens_that_are_none(tmp_path: Path, value: object, refused: Any) -> None:
    write_checkpoint(tmp_path)
    file = tmp_path / "generation_config.json"
    file.write_text(json.dumps({"eos_token_id": value}))
    refused([file, "eos_token_id", "299"], open_checkpoint, str(tmp_path))
