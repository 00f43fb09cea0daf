"""What a checkpoint says about generating: the tokens that end a text."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saguaro.builder.checkpoint.config import default_eos
from saguaro.builder.checkpoint.fields import Fields
from saguaro.builder.checkpoint.files import is_regular, member, read_json
from saguaro.models.config import ModelConfig

_MAX_FILE = 2**20
_KEY = "eos_token_id"


@dataclass(frozen=True)
class Generation:
    """Generation defaults of a checkpoint. `eos_token_ids` is empty when nothing ends its texts."""

    eos_token_ids: list[int] = field(default_factory=list)


def read_generation(directory: Path, raw_config: dict[str, Any], config: ModelConfig) -> Generation:
    """End tokens from generation_config.json, else from config.json, else what transformers assumes.

    Raises CheckpointError when a file names something other than token ids of this model.
    """
    file = directory / "generation_config.json"
    if is_regular(file):
        raw = read_json(member(directory, file.name, directory), _MAX_FILE)
        if raw.get(_KEY) is not None:
            return Generation(_token_ids(Fields(raw, str(file)), config.vocab_size))
    if _KEY not in raw_config:
        default = default_eos(config)
        return Generation([default] if default is not None and default < config.vocab_size else [])
    if raw_config[_KEY] is None:
        return Generation()
    return Generation(_token_ids(Fields(raw_config, str(directory / "config.json")), config.vocab_size))


def _token_ids(fields: Fields, vocab_size: int) -> list[int]:
    value = fields.raw[_KEY]
    ids = value if isinstance(value, list) else [value]
    if not all(type(token) is int and 0 <= token < vocab_size for token in ids):
        raise fields.wrong(_KEY, f"token ids from 0 to {vocab_size - 1}")
    return list(dict.fromkeys(ids))
