"""Moves the accepted path's rows of a KV cache to the end of the prefix, in place."""

from collections.abc import Sequence

import torch

from ..devices import check_devices
from . import reference

__all__ = ["kv_compact"]

Caches = torch.Tensor | Sequence[torch.Tensor]


def kv_compact(
    k_cache: Caches,
    v_cache: Caches,
    rows: torch.Tensor,
    prefix_length: torch.Tensor,
) -> None:
    """Row `prefix_length + rows[b, j]` becomes row `prefix_length + j`, in every layer and head, of K and V.

    All rows are read before any is written, so ranges may overlap and rows may come in any order. On CUDA
    it is one launch for all layers and both caches.

    Args:
        k_cache, v_cache: [B, H_kv, S, D], or all layers at once: [L, B, H_kv, S, D], or a sequence of L
            tensors [B, H_kv, S, D] of one shape and layout. Any type of up to 8 bytes (rows are moved as they
            are); the last dimension must be contiguous. Changed in place.
        rows: [B, A] int32 or int64, A <= 512: cache rows counted from the first node of the tree (row
            `prefix_length`); -1 moves nothing and is how shorter paths are padded. The first
            node is usually the root, which stays where it is: then rows[b] is 0 followed by
            `tree_accept`'s path.
        prefix_length: [B] int32 or int64, the first node's cache row.

    Raises:
        TypeError: other types than those above.
        ValueError: shapes, layouts or devices that do not fit, or, on the CPU (a GPU's values are not read,
            and moves out of range do nothing there), rows outside the cache.
    """
    keys, values = _layers(k_cache, "k_cache"), _layers(v_cache, "v_cache")
    _check(keys, values, rows, prefix_length)
    if keys[0].device.type == "cuda":
        from . import kernel

        kernel.launch([*keys, *values], rows, prefix_length)
        return
    moves, prefix = rows.tolist(), prefix_length.tolist()
    _check_values(keys[0].shape[2], moves, prefix)
    reference.kv_compact([*keys, *values], moves, prefix)


def _layers(cache: Caches, name: str) -> list[torch.Tensor]:
    if isinstance(cache, torch.Tensor):
        layers = list(cache.unbind(0)) if cache.dim() == 5 else [cache]
    else:
        layers = list(cache)
    if not layers or not all(isinstance(layer, torch.Tensor) for layer in layers):
        raise TypeError(f"{name} must be a tensor or a sequence of tensors, at least one")
    return layers


def _check(keys, values, rows, prefix_length) -> None:
    first = keys[0]
    if first.dim() != 4 or not first.numel():
        raise ValueError(f"a cache must be [B, H_kv, S, D] for each layer, got {list(first.shape)}")
    if first.element_size() not in (1, 2, 4, 8):
        raise TypeError(f"a cache's elements must have 1, 2, 4 or 8 bytes, got {first.dtype}")
    if first.stride(-1) != 1:
        raise ValueError(f"a cache must be contiguous in its last dimension, got strides {first.stride()}")
    if len(keys) != len(values):
        raise ValueError(f"k_cache has {len(keys)} layers and v_cache {len(values)}: give as many of both")
    for layer in (*keys, *values):
        same = layer.shape == first.shape and layer.stride() == first.stride()
        if not (same and layer.dtype == first.dtype and layer.device == first.device):
            raise ValueError(
                "all layers of k_cache and v_cache must have one shape, layout, type and device, got "
                f"{list(layer.shape)} {layer.dtype} beside {list(first.shape)} {first.dtype}"
            )
    for name, tensor, shape in (("rows", rows, "[B, A]"), ("prefix_length", prefix_length, "[B]")):
        if not isinstance(tensor, torch.Tensor) or tensor.dtype not in (torch.int32, torch.int64):
            got = tensor.dtype if isinstance(tensor, torch.Tensor) else type(tensor).__name__
            raise TypeError(f"{name} must be an int32 or int64 tensor, got {got}")
        if tensor.dim() != len(shape.split(",")) or tensor.shape[0] != first.shape[0]:
            raise ValueError(f"{name} must be {shape} with B = {first.shape[0]}, got {list(tensor.shape)}")
    check_devices({"k_cache": first, "rows": rows, "prefix_length": prefix_length})
    if rows.shape[1] > 512:
        raise ValueError(f"rows may move at most 512 rows of a sequence, got {rows.shape[1]}")


def _check_values(cache_rows: int, moves: list[list[int]], prefix: list[int]) -> None:
    for b, (row_list, length) in enumerate(zip(moves, prefix, strict=True)):
        if not 0 <= length <= cache_rows:
            raise ValueError(f"prefix_length[{b}] must lie in 0..{cache_rows}, the cache's rows, got {length}")
        for j, row in enumerate(row_list):
            if row < -1 or (row >= 0 and length + max(row, j) >= cache_rows):
                raise ValueError(
                    f"rows[{b}, {j}] = {row} after a prefix of {length} leaves the cache of {cache_rows} rows"
                )
