"""The header of one safetensors file, checked against the file before any library is handed it.

Layout: 8 bytes of header length (little endian), the header as JSON, then the tensors' bytes end to end.
"""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from saguaro.builder.checkpoint.files import is_regular, parse_object, shown, unreadable
from saguaro.errors import CheckpointError

# The format allows 100 MB. Parsed JSON takes up to 25 times its text, so that much could cost gigabytes;
# the header of the largest model that parse_config admits is about 2 MB.
MAX_HEADER = 8 * 2**20
_MAX_RANK = 8

# Bits per element of every type that the format defines.
_BITS = {
    **dict.fromkeys(["F4"], 4),
    **dict.fromkeys(["F6_E2M3", "F6_E3M2"], 6),
    **dict.fromkeys(["BOOL", "U8", "I8", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"], 8),
    **dict.fromkeys(["I16", "U16", "F16", "BF16"], 16),
    **dict.fromkeys(["I32", "U32", "F32"], 32),
    **dict.fromkeys(["I64", "U64", "F64", "C64"], 64),
}


@dataclass(frozen=True)
class TensorInfo:
    """One tensor: its type by safetensors' name, its shape, its first and past-the-end byte in the data."""

    dtype: str
    shape: tuple[int, ...]
    start: int
    end: int


def read_header(path: Path) -> dict[str, TensorInfo]:
    """Every tensor in the safetensors file `path`, by name.

    Raises CheckpointError unless the header is whole and consistent: entries of known type whose sizes agree
    with their shapes, covering the file's data exactly, without overlap or gap.
    """
    if not is_regular(path):
        raise CheckpointError(f"{path}: no such file; download the checkpoint again")
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            text = _header_text(path, file.read(8), size, file.read)
    except OSError as error:
        raise unreadable(path, error) from error
    entries = parse_object(text, f"{path} (header)")
    _check_metadata(path, entries.pop("__metadata__", None))
    tensors = {name: _tensor_info(path, name, entry) for name, entry in entries.items()}
    _check_cover(path, tensors, size - 8 - len(text))
    return tensors


def _header_text(path: Path, prefix: bytes, size: int, read: Any) -> bytes:
    if len(prefix) < 8:
        raise CheckpointError(f"{path}: {size} bytes is no safetensors file; download it again")
    (length,) = struct.unpack("<Q", prefix)
    if length > MAX_HEADER:
        raise CheckpointError(
            f"{path}: the header length is {length}, expected at most {MAX_HEADER}: "
            "damaged or no safetensors file; download it again"
        )
    if 8 + length > size:
        raise CheckpointError(
            f"{path}: truncated: the header ends at byte {8 + length}, the file at {size}; download it again"
        )
    text = read(length)
    return bytes(text)


def _check_metadata(path: Path, metadata: object) -> None:
    if metadata is None:
        return
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise CheckpointError(
            f"{path}: the header's `__metadata__` is {shown(metadata)}, expected an object of strings; "
            "download the file again"
        )


def _tensor_info(path: Path, name: str, entry: object) -> TensorInfo:
    def wrong(field: str, value: object, expected: str) -> CheckpointError:
        return CheckpointError(
            f"{path}: tensor {shown(name)}: `{field}` is {shown(value)}, expected {expected}; "
            "download the file again"
        )

    if not isinstance(entry, dict):
        raise wrong("entry", entry, "an object with dtype, shape and data_offsets")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _BITS:
        raise wrong("dtype", dtype, "a type that safetensors defines, such as 'BF16'")
    # Bounding the rank bounds the product: multiplying a million huge numbers would never end.
    if not isinstance(shape, list) or len(shape) > _MAX_RANK or not all(_is_size(n) for n in shape):
        raise wrong("shape", shape, f"a list of at most {_MAX_RANK} sizes")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(_is_size(n) for n in offsets):
        raise wrong("data_offsets", offsets, "[start, end]")
    start, end = offsets
    bits = _BITS[dtype]
    for n in shape:
        bits *= n
    if end - start < 0 or bits % 8 or bits // 8 != end - start:
        raise wrong("data_offsets", offsets, f"the {bits // 8} bytes of {dtype} {shown(shape)}")
    return TensorInfo(dtype, tuple(shape), start, end)


def _is_size(value: object) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _check_cover(path: Path, tensors: dict[str, TensorInfo], available: int) -> None:
    """The tensors, sorted by place, must fill the data exactly; anything else hides or shares bytes."""
    spans = sorted((info.start, info.end, name) for name, info in tensors.items())
    end = spans[-1][1] if spans else 0
    if end > available:
        raise CheckpointError(
            f"{path}: truncated: tensor {shown(spans[-1][2])} ends at byte {end} of the data, which has "
            f"{available}; download the file again"
        )
    for (_, previous_end, previous), (start, _, name) in pairwise([(0, 0, "__start__"), *spans]):
        if start != previous_end:
            raise CheckpointError(
                f"{path}: tensor {shown(name)} starts at byte {start} of the data, expected {previous_end}, "
                f"where {shown(previous)} ends; download the file again"
            )
    if end < available:
        raise CheckpointError(
            f"{path}: {available - end} bytes belong to no tensor, expected the data to end at {end}; "
            "download the file again"
        )
