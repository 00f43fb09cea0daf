"""safetensors files that are written one tensor at a time, so that a model need not fit into memory."""

from __future__ import annotations

import json
import math
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from saguaro.builder.progress import Progress
from saguaro.errors import ConfigError

# How safetensors and config.json spell them.
STORED = {torch.float32: ("F32", "float32"), torch.bfloat16: ("BF16", "bfloat16")}
SHARD_BYTES = 2 * 10**9


def write_weights(
    directory: Path,
    shapes: dict[str, tuple[int, ...]],
    dtype: torch.dtype,
    make: Callable[[str], torch.Tensor],
    progress: Progress,
) -> None:
    """safetensors files of at most SHARD_BYTES each, unless one tensor alone is larger, and their index."""
    sizes = {name: math.prod(shape) * dtype.itemsize for name, shape in shapes.items()}
    total, free = sum(sizes.values()), shutil.disk_usage(directory).free
    if total > free:
        raise ConfigError(f"{directory.parent}: {free / 1e9:.1f} GB are free, expected {total / 1e9:.1f} GB; make room")
    shards: list[list[str]] = [[]]
    used = 0
    for name, size in sizes.items():
        if shards[-1] and used + size > SHARD_BYTES:
            shards.append([])
            used = 0
        shards[-1].append(name)
        used += size
    files = [f"model-{at:05}-of-{len(shards):05}.safetensors" for at in range(1, len(shards) + 1)]
    if len(shards) == 1:
        files = ["model.safetensors"]
    done = 0
    for file_name, names in zip(files, shards, strict=True):
        with open(directory / file_name, "wb") as file:
            file.write(_header({name: shapes[name] for name in names}, dtype))
            for name in names:
                progress("inflate: weights", done, len(sizes))
                file.write(make(name).view(torch.uint8).numpy().data)  # one tensor in memory at a time
                done += 1
    progress("inflate: weights", done, len(sizes))
    if len(shards) > 1:
        weight_map = {name: file for file, names in zip(files, shards, strict=True) for name in names}
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _header(shapes: dict[str, tuple[int, ...]], dtype: torch.dtype) -> bytes:
    """What a safetensors file begins with: the header's length, and each tensor's type, shape and place."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape) * dtype.itemsize
        entries[name] = {"dtype": STORED[dtype][0], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)  # so that the tensors are aligned
    return struct.pack("<Q", len(text)) + text
