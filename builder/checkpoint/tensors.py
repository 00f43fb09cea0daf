"""All tensors of a checkpoint under one roof, memory-mapped, whether they lie in one file or in many."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from saguaro.builder.checkpoint.files import is_regular, member, read_json, shown
from saguaro.builder.checkpoint.header import MAX_HEADER, TensorInfo, read_header
from saguaro.errors import CheckpointError

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_MAX_INDEX = MAX_HEADER  # for the same reason
_PICKLED = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}


class TensorStore:
    """The weights of the checkpoint in `directory`: `model.safetensors`, or the shards its index names.

    Opening validates the index and every header but reads no tensor. Raises CheckpointError when there are
    no safetensors weights, a shard is missing or lies elsewhere, or a file contradicts itself.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._files: list[Path] = []
        self._info: dict[str, TensorInfo] = {}
        self._holder: dict[str, Path] = {}
        self._handles: dict[Path, Any] = {}
        if is_regular(directory / SINGLE):
            path = member(directory, SINGLE, directory)
            self._add(path, None)
        elif is_regular(directory / INDEX):
            self._open_shards(member(directory, INDEX, directory))
        else:
            raise CheckpointError(_no_weights(directory))

    def names(self) -> list[str]:
        """Every tensor's name, in the order of the files."""
        return list(self._info)

    def __contains__(self, name: str) -> bool:
        return name in self._info

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape as stored. Raises CheckpointError when there is no such tensor."""
        return self._find(name).shape

    def dtype(self, name: str) -> torch.dtype:
        """float32, float16 or bfloat16. Raises CheckpointError for any other type."""
        stored = self._find(name).dtype
        if stored not in _DTYPES:
            raise CheckpointError(
                f"{self._holder[name]}: tensor {shown(name)} has type {stored}, expected F32, F16 or BF16; "
                "use the unquantised checkpoint"
            )
        return _DTYPES[stored]

    def get(self, name: str) -> torch.Tensor:
        """The tensor on the CPU, of its stored type and shape, backed by the file: do not write to it."""
        self.dtype(name)
        tensor: torch.Tensor = self._handles[self._holder[name]].get_tensor(name)
        if tensor.data_ptr() % tensor.element_size():
            return tensor.clone()  # headers of odd length misalign the data; vector kernels may not take that
        return tensor

    def files(self) -> list[Path]:
        """The safetensors files inside the directory; in a hub snapshot these are symbolic links."""
        return list(self._files)

    def holder(self, name: str) -> Path:
        """The file in which the tensor lies."""
        self._find(name)
        return self._holder[name]

    def source(self) -> Path:
        """The file that says which tensors there are: the index, or the only weight file."""
        index = self._directory / INDEX
        return self._files[0] if self._files == [self._directory / SINGLE] else index

    def _find(self, name: str) -> TensorInfo:
        if name not in self._info:
            raise CheckpointError(
                f"{self.source()}: there is no tensor {shown(name)}; "
                "download the checkpoint again or choose another"
            )
        return self._info[name]

    def _open_shards(self, index: Path) -> None:
        weight_map = read_json(index, _MAX_INDEX).get("weight_map")
        if not isinstance(weight_map, dict) or not weight_map:
            raise CheckpointError(
                f"{index}: `weight_map` is {shown(weight_map)}, expected an object of tensor and file names; "
                "download it again"
            )
        shards: dict[str, list[str]] = {}
        for name, shard in weight_map.items():
            if not isinstance(shard, str):
                raise CheckpointError(
                    f"{index}: `weight_map` has {shown(shard)} for {shown(name)}, expected a file name; "
                    "download it again"
                )
            shards.setdefault(shard, []).append(name)
        for shard, names in shards.items():
            path = member(self._directory, shard, index)
            if not is_regular(path):
                raise CheckpointError(
                    f"{path}: this shard is missing, though {INDEX} names it; download the checkpoint again"
                )
            self._add(path, names)

    def _add(self, path: Path, names: list[str] | None) -> None:
        """Take `names` (all when None) from the file `path`."""
        header = read_header(path)
        try:
            self._handles[path] = safe_open(path, framework="pt", device="cpu")
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(
                f"{path}: not readable as safetensors ({shown(str(error))}); download it again"
            ) from error
        for name in header if names is None else names:
            if name not in header:
                raise CheckpointError(
                    f"{path}: does not hold the tensor {shown(name)}, though {INDEX} says so; "
                    "download the checkpoint again"
                )
            self._info[name] = header[name]
            self._holder[name] = path
        self._files.append(path)


def _no_weights(directory: Path) -> str:
    pickled = sorted(path.name for pattern in _PICKLED for path in directory.glob(pattern))
    if pickled:
        return (
            f"{directory}: its weights are pickled ({shown(pickled[0])}) and could run code when loaded, "
            f"expected {SINGLE} or {INDEX}; convert them to safetensors (in transformers: load the model "
            "where you trust it, then `save_pretrained`)"
        )
    return f"{directory}: no weights, expected {SINGLE} or {INDEX}; download the checkpoint again"
