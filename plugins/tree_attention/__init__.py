"""Attention of token-tree nodes over a linear KV cache, with the tree as a packed bit mask."""

import torch

from ..devices import check_devices
from . import reference
from .masks import MAX_NODES, pack_ancestors

__all__ = ["pack_ancestors", "tree_attention"]

HEAD_SIZES = (64, 80, 96, 128, 256)
FLOATS = (torch.float32, torch.float16, torch.bfloat16)


def tree_attention(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    ancestors: torch.Tensor,
    prefix_length: torch.Tensor,
    scale: float | None = None,
) -> torch.Tensor:
    """Each query attends to its sequence's whole prefix and to the tree rows that its bit mask names.

    Args:
        q: [B, H, T, D] float32, float16 or bfloat16. The queries may be all nodes of the tree or some of
            them (the draft advancing its branches: the last rows).
        k_cache, v_cache: [B, H_kv, S, D] of q's type and device; H is a multiple of H_kv, and query
            head h reads head h // (H / H_kv). They already hold the tree's rows, from `prefix_length` on.
            The last dimension must be contiguous. Rows that no query sees may hold anything.
        ancestors: [B, T, W] int32, W <= 16, one row for each query: bit i is cache row
            `prefix_length + i`. From `pack_ancestors`, whole or the rows of the queries.
        prefix_length: [B] int32 or int64, rows of each sequence's prefix; may be 0.
        scale: factor on q k^T; 1 / sqrt(D) by default.

    Returns:
        [B, H, T, D] of q's type, accumulated in float32. A query that sees nothing gives zeros.
        Head sizes other than 64, 80, 96, 128 and 256 run on the CPU only.

    Raises:
        TypeError: other types than those above.
        ValueError: shapes or devices that do not fit, or, on the CPU (a GPU's values are not read), a
            prefix longer than the cache or a mask that names rows past it.
    """
    _check(q, k_cache, v_cache, ancestors, prefix_length)
    scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
    if q.device.type == "cuda":
        if q.shape[-1] not in HEAD_SIZES:
            raise ValueError(f"the head size must be one of {HEAD_SIZES} on CUDA, got {q.shape[-1]}")
        from . import kernel

        return kernel.launch(q, k_cache, v_cache, ancestors, prefix_length, scale)
    _check_values(k_cache, ancestors, prefix_length)
    return reference.tree_attention(q, k_cache, v_cache, ancestors, prefix_length, scale)


def _check(q, k_cache, v_cache, ancestors, prefix_length) -> None:
    tensors = {
        "q": q, "k_cache": k_cache, "v_cache": v_cache, "ancestors": ancestors, "prefix_length": prefix_length
    }  # fmt: skip
    for name, tensor in tensors.items():
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}")
    check_devices(tensors)
    if q.dtype not in FLOATS:
        raise TypeError(f"q must be float32, float16 or bfloat16, got {q.dtype}")
    if q.dim() != 4 or not q.numel():
        raise ValueError(f"q must be [B, H, T, D] and not empty, got shape {list(q.shape)}")
    batch, heads, queries, size = q.shape
    for name, cache in (("k_cache", k_cache), ("v_cache", v_cache)):
        if cache.dtype != q.dtype:
            raise TypeError(f"{name} must be {q.dtype} like q, got {cache.dtype}")
        if cache.dim() != 4 or cache.shape[0] != batch or cache.shape[3] != size or not cache.numel():
            raise ValueError(f"{name} must be [B, H_kv, S, D] = [{batch}, H_kv, S, {size}], got {list(cache.shape)}")
        if cache.stride(-1) != 1:
            raise ValueError(f"{name} must be contiguous in its last dimension, got strides {cache.stride()}")
    if v_cache.shape != k_cache.shape:
        raise ValueError(f"k_cache and v_cache must have one shape, got {list(k_cache.shape)}, {list(v_cache.shape)}")
    if heads % k_cache.shape[1]:
        raise ValueError(f"q's {heads} heads must be a multiple of the cache's {k_cache.shape[1]} heads")
    if ancestors.dtype != torch.int32:
        raise TypeError(f"ancestors must be int32 (see pack_ancestors), got {ancestors.dtype}")
    if ancestors.dim() != 3 or ancestors.shape[:2] != (batch, queries) or not ancestors.shape[2]:
        raise ValueError(
            f"ancestors must be [B, T, W] = [{batch}, {queries}, W], one mask for each query, "
            f"got {list(ancestors.shape)}"
        )
    if ancestors.shape[2] > MAX_NODES // 32:
        raise ValueError(f"ancestors may name {MAX_NODES} rows, got {ancestors.shape[2]} words of 32")
    if prefix_length.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"prefix_length must be int32 or int64, got {prefix_length.dtype}")
    if prefix_length.shape != (batch,):
        raise ValueError(f"prefix_length must be [B] = [{batch}], got {list(prefix_length.shape)}")


def _check_values(k_cache, ancestors, prefix_length) -> None:
    """The checks that read values, which on a GPU would wait for it."""
    rows = k_cache.shape[2]
    for b, length in enumerate(prefix_length.tolist()):
        if not 0 <= length <= rows:
            raise ValueError(f"prefix_length[{b}] must lie in 0..{rows}, the cache's rows, got {length}")
        named = 0
        for word, bits in enumerate((ancestors[b] != 0).any(0).tolist()):
            if bits and length + 32 * word + 32 > rows:  # only then look for the exact last bit
                joint = 0
                for value in ancestors[b, :, word].tolist():
                    joint |= value & 0xFFFFFFFF
                named = 32 * word + joint.bit_length()
        if length + named > rows:
            raise ValueError(
                f"ancestors[{b}] names tree row {named - 1} after a prefix of {length}, but the cache has {rows} rows"
            )
