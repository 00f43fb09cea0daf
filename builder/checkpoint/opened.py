"""A checkpoint that has been validated as a whole: configuration, tensors and end tokens fit together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from saguaro.builder.checkpoint.config import parse_config
from saguaro.builder.checkpoint.files import is_regular, member, read_json, shown
from saguaro.builder.checkpoint.generation import Generation, read_generation
from saguaro.builder.checkpoint.hub import resolve
from saguaro.builder.checkpoint.names import expected_tensors
from saguaro.builder.checkpoint.tensors import TensorStore
from saguaro.errors import CheckpointError
from saguaro.models.config import ModelConfig

_MAX_CONFIG = 4 * 2**20
_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"


@dataclass(frozen=True)
class Checkpoint:
    """One model's files on this machine: every tensor that `config` expects is there, with its shape."""

    path: Path
    config: ModelConfig
    tensors: TensorStore
    generation: Generation


def open_checkpoint(source: str, base: Path | None = None) -> Checkpoint:
    """Open and validate a local directory (relative to `base`) or hub id `org/name[@revision]`.

    Reads configuration and headers only; tensors stay on disk until asked for. Raises CheckpointError, one
    sentence, for anything missing, malformed, unsupported or contradictory.
    """
    directory = resolve(source, base)
    if not is_regular(directory / "config.json"):
        raise CheckpointError(
            f"{directory}: no config.json, so this is no checkpoint; name a directory in Hugging Face layout"
        )
    path = member(directory, "config.json", directory)
    raw = read_json(path, _MAX_CONFIG)
    config = parse_config(raw, str(path))
    tensors = TensorStore(directory)
    for problem in _problems(config, tensors):
        raise CheckpointError(problem)
    return Checkpoint(directory, config, tensors, read_generation(directory, raw, config))


def _problems(config: ModelConfig, tensors: TensorStore) -> Iterator[str]:
    """Sentences on how the tensors fail to be those of `config`; the caller needs the first."""
    expected = expected_tensors(config)
    for name, shape in expected.items():
        if name not in tensors:
            yield (
                f"{tensors.source()}: the tensor '{name}' is missing, expected with shape {list(shape)} by "
                "config.json; download the checkpoint again"
            )
        tensors.dtype(name)
        if tensors.shape(name) != shape:
            yield (
                f"{tensors.holder(name)}: tensor '{name}' has the shape {shown(list(tensors.shape(name)))}, "
                f"expected {list(shape)} by config.json; take both files from the same checkpoint"
            )
    # A weight that the architecture has no place for means that config.json describes another model, which
    # would run and be wrong: a layer too few, a bias forgotten.
    for name in tensors.names():
        if name not in expected and name.startswith("model.") and not name.endswith("rotary_emb.inv_freq"):
            yield (
                f"{tensors.holder(name)}: tensor {shown(name)} has no place in the {config.architecture} "
                "that config.json describes; take both files from the same checkpoint"
            )
    if config.tie_word_embeddings and _HEAD in tensors and not _equal(tensors):
        yield (
            f"{tensors.holder(_HEAD)}: tensor '{_HEAD}' differs from '{_EMBEDDING}' though "
            "`tie_word_embeddings` is true in config.json; set it to false there, or drop the tensor"
        )


def _equal(tensors: TensorStore) -> bool:
    """transformers 4 ties regardless and transformers 5 unties when the two differ, so they must not.

    The one case in which tensors are read while opening; files that store both copies are rare.
    """
    if tensors.shape(_HEAD) != tensors.shape(_EMBEDDING) or tensors.dtype(_HEAD) != tensors.dtype(_EMBEDDING):
        return False
    return torch.equal(tensors.get(_HEAD), tensors.get(_EMBEDDING))
