"""Which sizes a small checkpoint can be given: those of known models, and config.json with any that fit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import torch

from saguaro.builder.checkpoint import Checkpoint
from saguaro.errors import ConfigError

from .files import STORED

# The constant c of the vocabulary's bias (see `tensors`), exact in fp16 too.
CONSTANT = 2.0**-12


@dataclass(frozen=True)
class Like:
    """A known model's sizes. Its attention is given in widths, since the head size stays the source's."""

    hidden_size: int
    num_layers: int
    query_width: int
    kv_width: int
    intermediate_size: int
    vocab_size: int = 128256


LIKE = {
    "llama-3.1-8b": Like(4096, 32, 4096, 1024, 14336),
    "llama-3.2-1b": Like(2048, 16, 2048, 512, 8192),
}

# Fields of config.json by the options that set them.
FIELDS = {
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "intermediate_size": "intermediate_size",
    "vocab_size": "vocab_size",
}


def sizes_like(name: str, head_dim: int) -> dict[str, int]:
    """The sizes of `LIKE[name]` with heads of `head_dim`. Raises ConfigError where they do not divide it."""
    like = LIKE[name]
    if like.query_width % head_dim or like.kv_width % head_dim:
        raise ConfigError(
            f"--like is {name}, whose key-value width {like.kv_width} is no multiple of the source's "
            f"head_dim {head_dim}; give the sizes one by one"
        )
    heads = {"num_heads": like.query_width // head_dim, "num_kv_heads": like.kv_width // head_dim}
    return heads | {name: getattr(like, name) for name in FIELDS if hasattr(like, name)}


def inflated_config(checkpoint: Checkpoint, sizes: dict[str, int], dtype: torch.dtype) -> dict[str, Any]:
    """config.json of the large model, its sizes checked against the small one's."""
    small = checkpoint.config
    full = {name: sizes.get(name, getattr(small, name)) for name in FIELDS}
    for name, size in full.items():
        if size < getattr(small, name):
            raise ConfigError(
                f"--{name.replace('_', '-')} is {size}, expected at least the source's {getattr(small, name)}"
            )
    hidden, heads, kv_heads = full["hidden_size"], full["num_heads"], full["num_kv_heads"]
    if hidden % heads:  # transformers asks for it even where head_dim is given
        raise ConfigError(f"--hidden-size is {hidden}, expected a multiple of the {heads} query heads")
    if heads % kv_heads:
        raise ConfigError(f"--num-kv-heads is {kv_heads}, expected a divisor of the {heads} query heads")
    needed = small.num_kv_heads * copies(small.num_heads // small.num_kv_heads, heads // kv_heads)
    if needed > kv_heads:
        raise ConfigError(
            f"--num-kv-heads is {kv_heads}, expected at least {needed}, since {heads // kv_heads} query "
            f"heads to each are fewer than the source's {small.num_heads // small.num_kv_heads}"
        )
    square = 0.0
    if full["vocab_size"] > small.vocab_size:
        square = CONSTANT**2
        if hidden == small.hidden_size or small.hidden_size * small.rms_norm_eps <= square:
            raise ConfigError(
                f"--vocab-size is {full['vocab_size']}, expected {small.vocab_size} as in the source, unless "
                f"--hidden-size is larger too and rms_norm_eps above {square / small.hidden_size:.1e}"
            )
    raw: dict[str, Any] = json.loads((checkpoint.path / "config.json").read_text())
    raw.pop("torch_dtype", None)
    return raw | {
        **{FIELDS[name]: size for name, size in full.items()},
        "head_dim": small.head_dim,
        "rms_norm_eps": (small.hidden_size * small.rms_norm_eps - square) / hidden,
        "dtype": STORED[dtype][1],
    }


def copies(small_group: int, large_group: int) -> int:
    """Large key-value heads for one small one, given how many query heads each kind serves."""
    return -(-small_group // large_group)
