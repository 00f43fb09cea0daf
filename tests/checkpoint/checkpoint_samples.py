"""Tiny checkpoints in Hugging Face layout for these tests, written with public libraries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from saguaro.builder.checkpoint.config import parse_config
from saguaro.builder.checkpoint.names import expected_tensors

ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}


def raw_config(architecture: str = "LlamaForCausalLM", **changes: Any) -> dict[str, Any]:
    """A config.json small enough to write a thousand of; a change to None removes the field."""
    raw: dict[str, Any] = {
        "architectures": [architecture],
        "model_type": ARCHITECTURES.get(architecture, "other"),
        "vocab_size": 300,
        "hidden_size": 16,
        "intermediate_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
        "hidden_act": "silu",
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "eos_token_id": 2,
        **changes,
    }
    return {key: value for key, value in raw.items() if value is not None}


def random_tensors(raw: dict[str, Any], dtype: torch.dtype = torch.bfloat16) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = expected_tensors(parse_config(raw, "sample"))
    return {name: torch.randn(shape, generator=generator).to(dtype) for name, shape in shapes.items()}


def write_checkpoint(
    directory: Path,
    raw: dict[str, Any] | None = None,
    tensors: dict[str, torch.Tensor] | None = None,
    dtype: torch.dtype = torch.bfloat16,
    shards: int = 1,
) -> dict[str, torch.Tensor]:
    """Write config.json and weights (with an index when there are several shards); return the tensors."""
    directory.mkdir(parents=True, exist_ok=True)
    raw = raw_config() if raw is None else raw
    tensors = random_tensors(raw, dtype) if tensors is None else tensors
    (directory / "config.json").write_text(json.dumps(raw))
    if shards == 1:
        save_file(tensors, directory / "model.safetensors", metadata={"format": "pt"})
        return tensors
    weight_map: dict[str, str] = {}
    for number in range(shards):
        name = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        part = dict(list(tensors.items())[number::shards])
        save_file(part, directory / name, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(part, name))
    write_index(directory, weight_map)
    return tensors


def write_index(directory: Path, weight_map: object) -> None:
    index = {"metadata": {"total_size": 1}, "weight_map": weight_map}
    (directory / "model.safetensors.index.json").write_text(json.dumps(index))


def read_index(directory: Path) -> dict[str, str]:
    return dict(json.loads((directory / "model.safetensors.index.json").read_text())["weight_map"])


def write_tokenizer(
    directory: Path,
    text: str = "def add(left, right): return left + right",
    extra: tuple[str, ...] = (),
    **settings: Any,
) -> Tokenizer:
    """A byte-level BPE tokenizer of about 275 tokens trained on `text`, with `<s>` and `</s>`."""
    directory.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator(
        [text] * 2,
        trainers.BpeTrainer(
            vocab_size=275,
            special_tokens=["<s>", "</s>", "<pad>"],
            initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
            show_progress=False,
        ),
    )
    tokenizer.add_tokens(list(extra))
    tokenizer.save(str(directory / "tokenizer.json"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": "<s>",
        "eos_token": "</s>",
        **settings,
    }
    (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return tokenizer
