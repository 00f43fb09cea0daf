"""Row moves in Triton, for all layers and both caches in one launch through a table of pointers.

A program reads all A rows of its slice of the head dimension into registers, waits, and only then writes, so
overlap is no matter within a slice, and no two programs share one. Rows move as integers of the element's
size, whatever its type.
"""

from functools import lru_cache

import torch
import triton
import triton.language as tl


@triton.jit
def move_rows(
    base, moves_base, prefix, cache_rows, count, stride_s, start,
    D: tl.constexpr, ROWS: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    j = tl.arange(0, ROWS)
    row = tl.load(moves_base + j, mask=j < count, other=-1).to(tl.int32)
    reach = prefix + tl.maximum(row, j)
    moving = (row >= 0) & (row != j) & (reach < cache_rows) & (prefix + 0 * j >= 0)
    d = start + tl.arange(0, BLOCK_D)
    mask = moving[:, None] & (d[None, :] < D)
    source = base + (prefix + row)[:, None].to(tl.int64) * stride_s + d[None, :]
    target = base + (prefix + j)[:, None].to(tl.int64) * stride_s + d[None, :]
    data = tl.load(source, mask=mask, other=0)
    tl.debug_barrier()  # every lane has read before any writes
    tl.store(target, data, mask=mask)


@triton.jit
def compact_kernel(
    table_ptr, moves_ptr, prefix_ptr, stride_b, stride_h, stride_s, kv_heads, cache_rows, count,
    ELEMENT: tl.constexpr, D: tl.constexpr, ROWS: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Grid (caches, B * H_kv, slices of D); `table_ptr` holds each cache's address as int64."""
    batch = (tl.program_id(1) // kv_heads).to(tl.int64)
    head = (tl.program_id(1) % kv_heads).to(tl.int64)
    cache = tl.load(table_ptr + tl.program_id(0)).to(tl.pointer_type(ELEMENT))
    prefix = tl.load(prefix_ptr + batch).to(tl.int32)
    move_rows(
        cache + batch * stride_b + head * stride_h, moves_ptr + batch * count, prefix, cache_rows, count,
        stride_s, tl.program_id(2) * BLOCK_D, D, ROWS, BLOCK_D,
    )  # fmt: skip


@triton.jit
def compact_pair_kernel(
    k_ptr, v_ptr, moves_ptr, prefix_ptr, kv_heads, cache_rows, count, k_out_ptr, v_out_ptr,
    D: tl.constexpr, ROWS: tl.constexpr, BLOCK_D: tl.constexpr,
):  # fmt: skip
    """Grid (2, B * H_kv, slices of D): one layer's contiguous K and V, for TensorRT, which has no tables.

    The outputs are the inputs' memory (aliased), so they are named only because TensorRT passes them.
    """
    batch = (tl.program_id(1) // kv_heads).to(tl.int64)
    cache = k_ptr if tl.program_id(0) == 0 else v_ptr
    prefix = tl.load(prefix_ptr + batch).to(tl.int32)
    move_rows(
        cache + tl.program_id(1).to(tl.int64) * cache_rows * D, moves_ptr + batch * count, prefix, cache_rows,
        count, D, tl.program_id(2) * BLOCK_D, D, ROWS, BLOCK_D,
    )  # fmt: skip


def block(count: int, head_size: int) -> dict:
    """A power of two that holds the rows, and as much of D as keeps 4096 elements a program.

    Eight warps where four would spill (each element needs two addresses).
    """
    rows = max(1, triton.next_power_of_2(count))
    width = max(8, min(triton.next_power_of_2(head_size), 4096 // rows))
    return {"ROWS": rows, "BLOCK_D": width, "num_warps": 8 if rows * width > 2048 else 4}


@lru_cache(maxsize=1024)  # one for each slot of a session: were they dropped, calls would wait for copies again
def pointer_table(addresses: tuple[int, ...], device: torch.device) -> torch.Tensor:
    """Copied to the device once for each set of caches, so that later calls can be captured in a graph."""
    return torch.tensor(addresses, dtype=torch.int64).to(device)


def launch(caches, rows, prefix_length) -> None:
    """One launch over caches [B, H_kv, S, D] of one shape and layout, already checked."""
    first = caches[0]
    if rows.shape[1] == 0:
        return
    batch, kv_heads, cache_rows, size = first.shape
    blocks = block(rows.shape[1], size)
    table = pointer_table(tuple(cache.data_ptr() for cache in caches), first.device)
    element = {1: tl.int8, 2: tl.int16, 4: tl.int32, 8: tl.int64}[first.element_size()]
    compact_kernel[(len(caches), batch * kv_heads, triton.cdiv(size, blocks["BLOCK_D"]))](
        table, rows.contiguous(), prefix_length.contiguous(), *first.stride()[:3],
        kv_heads, cache_rows, rows.shape[1], ELEMENT=element, D=size, **blocks,
    )  # fmt: skip
