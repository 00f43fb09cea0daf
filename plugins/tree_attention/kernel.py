"""Tree attention in Triton: flash-decoding over the cache, with the tree as packed bits.

One program of `split_kernel` takes one sequence, one KV head, a block of its queries (all query heads of
the group together, so that a KV row is read once for them) and one share of the cache: a part of the prefix,
then every `splits`-th block of the tree, for which it looks at bits. `merge_kernel` joins the shares.
The running softmax is FlashAttention-2's (Dao, 2023), the split flash-decoding's (Dao et al., 2023).

UPCAST widens bfloat16 operands just before a product, which changes no value: Triton's interpreter, in
which the tests run, cannot multiply bfloat16.
"""

import torch
import triton
import triton.language as tl

MERGE_ROWS = 4  # queries of one program when shares are joined
LOWEST = tl.constexpr(-1.0e30)  # stands for -inf, so that no inf - inf arises where nothing is visible


@triton.jit
def attend_block(
    q, highest, total, acc, k_base, v_base, row, visible, seen, scale_log2, stride_ks, stride_vs,
    D: tl.constexpr, BLOCK_D: tl.constexpr, UPCAST: tl.constexpr,
):  # fmt: skip
    """One block of cache rows in the running softmax of a block of queries.

    visible [M, N] or [1, N]: which query sees which row; seen [N]: whether any does. Other rows may hold
    anything, so they are not loaded: a NaN would survive a weight of zero.
    """
    d = tl.arange(0, BLOCK_D)
    keys = tl.load(
        k_base + row[None, :].to(tl.int64) * stride_ks + d[:, None],
        mask=seen[None, :] & (d[:, None] < D), other=0.0,
    )  # fmt: skip
    if UPCAST:
        keys = keys.to(tl.float32)
    # "ieee": float32 inputs are multiplied as float32, not TF32; without effect on 16-bit inputs
    scores = tl.where(visible, tl.dot(q, keys, input_precision="ieee") * scale_log2, LOWEST)
    new_highest = tl.maximum(highest, tl.max(scores, 1))
    weights = tl.where(visible, tl.exp2(scores - new_highest[:, None]), 0.0)
    fade = tl.exp2(highest - new_highest)
    total = total * fade + tl.sum(weights, 1)
    values = tl.load(
        v_base + row[:, None].to(tl.int64) * stride_vs + d[None, :],
        mask=seen[:, None] & (d[None, :] < D), other=0.0,
    )  # fmt: skip
    weights = weights.to(values.dtype)
    if UPCAST:
        weights = weights.to(tl.float32)
        values = values.to(tl.float32)
    acc = tl.dot(weights, values, acc * fade[:, None], input_precision="ieee")
    return new_highest, total, acc


@triton.jit
def split_kernel(
    q_ptr, k_ptr, v_ptr, ancestors_ptr, prefix_ptr,
    stride_qb, stride_qh, stride_qt, stride_kb, stride_kh, stride_ks, stride_vb, stride_vh, stride_vs,
    heads, kv_heads, queries, cache_rows, words, splits, scale,
    out_ptr, log_ptr,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr,
    UPCAST: tl.constexpr,
):  # fmt: skip
    """Grid (query blocks, B * H_kv, splits).

    Writes the share's normalised output to out [splits, B, H, T, D] float32 and the base-2 logarithm of its
    softmax denominator to log [splits, B, H, T]; a share that a query sees nothing of has LOWEST there.
    """
    batch = (tl.program_id(1) // kv_heads).to(tl.int64)
    kv_head = tl.program_id(1) % kv_heads
    split = tl.program_id(2)
    group = heads // kv_heads
    member = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)  # a (query head of the group, query) pair
    live = member < group * queries
    query = tl.where(live, member % queries, 0)
    head = kv_head * group + tl.where(live, member // queries, 0)
    # No row outside the cache is read whatever the lengths say: TensorRT times kernels on inputs of its own making.
    prefix = tl.maximum(tl.minimum(tl.load(prefix_ptr + batch).to(tl.int32), cache_rows), 0)

    d = tl.arange(0, BLOCK_D)
    q = tl.load(
        q_ptr + batch * stride_qb + head[:, None] * stride_qh + query[:, None] * stride_qt + d[None, :],
        mask=live[:, None] & (d[None, :] < D), other=0.0,
    )  # fmt: skip
    if UPCAST:
        q = q.to(tl.float32)
    k_base = k_ptr + batch * stride_kb + kv_head * stride_kh
    v_base = v_ptr + batch * stride_vb + kv_head * stride_vh
    scale_log2 = scale * 1.4426950408889634
    highest = tl.full((BLOCK_M,), LOWEST, tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    acc = tl.zeros((BLOCK_M, BLOCK_D), tl.float32)

    # The prefix: every query sees every row.
    share = tl.cdiv(tl.cdiv(prefix, splits), BLOCK_N) * BLOCK_N
    last = tl.minimum(split * share + share, prefix)
    for start in range(split * share, last, BLOCK_N):
        row = start + tl.arange(0, BLOCK_N)
        inside = row < last
        highest, total, acc = attend_block(
            q, highest, total, acc, k_base, v_base, row, inside[None, :], inside, scale_log2,
            stride_ks, stride_vs, D, BLOCK_D, UPCAST,
        )  # fmt: skip

    # The tree: blocks are counted from its first row, so that a block's bits lie in one word of each query.
    BLOCK_T: tl.constexpr = BLOCK_N if BLOCK_N < 32 else 32
    for block in range(split, words * (32 // BLOCK_T), splits):
        node = block * BLOCK_T + tl.arange(0, BLOCK_T)
        row = prefix + node
        word = tl.load(ancestors_ptr + (batch * queries + query) * words + block * BLOCK_T // 32, mask=live, other=0)
        bit = (word[:, None] >> (node & 31)[None, :]) & 1
        visible = (bit != 0) & (row < cache_rows)[None, :]
        highest, total, acc = attend_block(
            q, highest, total, acc, k_base, v_base, row, visible, tl.max(visible.to(tl.int32), 0) > 0,
            scale_log2, stride_ks, stride_vs, D, BLOCK_D, UPCAST,
        )  # fmt: skip

    something = total > 0
    acc = acc / tl.where(something, total, 1.0)[:, None]
    log = tl.where(something, highest + tl.log2(tl.where(something, total, 1.0)), LOWEST)
    batches = tl.num_programs(1) // kv_heads
    at = ((split * batches + batch) * heads + head) * queries + query
    tl.store(log_ptr + at, log, mask=live)
    tl.store(out_ptr + at[:, None] * D + d[None, :], acc, mask=live[:, None] & (d[None, :] < D))


@triton.jit
def merge_kernel(
    part_ptr, log_ptr, rows, splits, out_ptr,
    D: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """Grid (blocks of B * H * T rows): the shares part [splits, rows, D] into out [rows, D]."""
    row = tl.program_id(0) * BLOCK_R + tl.arange(0, BLOCK_R)
    live = row < rows
    d = tl.arange(0, BLOCK_D)
    mask = live[:, None] & (d[None, :] < D)
    highest = tl.full((BLOCK_R,), LOWEST, tl.float32)
    total = tl.zeros((BLOCK_R,), tl.float32)
    acc = tl.zeros((BLOCK_R, BLOCK_D), tl.float32)
    for split in range(0, splits):
        at = (split * rows + row).to(tl.int64)
        log = tl.load(log_ptr + at, mask=live, other=LOWEST)
        new_highest = tl.maximum(highest, log)
        weight = tl.where(log > LOWEST, tl.exp2(log - new_highest), 0.0)
        fade = tl.exp2(highest - new_highest)
        part = tl.load(part_ptr + at[:, None] * D + d[None, :], mask=mask, other=0.0)
        acc = acc * fade[:, None] + part * weight[:, None]
        total = total * fade + weight
        highest = new_highest
    acc = acc / tl.where(total > 0, total, 1.0)[:, None]
    tl.store(out_ptr + row.to(tl.int64)[:, None] * D + d[None, :], acc.to(out_ptr.dtype.element_ty), mask=mask)


def tile(head_size: int, element_bytes: int, group_queries: int) -> dict:
    """Block sizes and warps for a head size, type and number of (head, query) pairs of a KV head.

    Chosen so that two stages of K and V fit in the 99 KB of an SM 8.6 and that no target spills
    (`python -m saguaro.plugins.compile` checks both).
    """
    block_d = triton.next_power_of_2(head_size)
    if element_bytes == 4:
        block_m, block_n = 16, 16
    else:
        block_m = 16 if group_queries <= 16 else 32  # 64 spills with Triton 3.6 even at D = 64
        block_n = 64 if block_d <= 128 else 32
    return {
        "BLOCK_D": block_d, "BLOCK_M": block_m, "BLOCK_N": block_n,
        "num_warps": 4 if block_m == 16 and element_bytes * block_d < 1024 else 8, "num_stages": 2,
        "maxnreg": 255,  # else ptxas aims at more resident blocks and spills a little for it
    }  # fmt: skip


def choose_splits(programs: int, cache_rows: int, block_n: int, processors: int) -> int:
    """Shares of the cache, a power of two: two programs a processor, but at least four blocks a share."""
    wanted = max(1, 2 * processors // programs)
    useful = max(1, cache_rows // (4 * block_n))
    return 1 << (min(wanted, useful, 64).bit_length() - 1)


def launch(q, k_cache, v_cache, ancestors, prefix_length, scale, splits=None, config=None) -> torch.Tensor:
    """The two kernels on tensors already checked."""
    batch, heads, queries, size = q.shape
    kv_heads, cache_rows = k_cache.shape[1], k_cache.shape[2]
    pairs = heads // kv_heads * queries
    config = config or tile(size, q.element_size(), pairs)
    if q.stride(-1) != 1:
        q = q.contiguous()
    ancestors = ancestors.contiguous()
    blocks = triton.cdiv(pairs, config["BLOCK_M"])
    if splits is None:
        processors = torch.cuda.get_device_properties(q.device).multi_processor_count
        splits = choose_splits(blocks * batch * kv_heads, cache_rows, config["BLOCK_N"], processors)
    interpreted = not isinstance(split_kernel, triton.JITFunction)
    part = torch.empty(splits, batch, heads, queries, size, dtype=torch.float32, device=q.device)
    log = torch.empty(splits, batch, heads, queries, dtype=torch.float32, device=q.device)
    out = torch.empty(batch, heads, queries, size, dtype=q.dtype, device=q.device)
    split_kernel[(blocks, batch * kv_heads, splits)](
        q, k_cache, v_cache, ancestors, prefix_length,
        *q.stride()[:3], *k_cache.stride()[:3], *v_cache.stride()[:3],
        heads, kv_heads, queries, cache_rows, ancestors.shape[2], splits, scale,
        part, log, D=size, UPCAST=interpreted and q.dtype == torch.bfloat16, **config,
    )  # fmt: skip
    rows = batch * heads * queries
    merge_kernel[(triton.cdiv(rows, MERGE_ROWS),)](
        part, log, rows, splits, out, D=size, BLOCK_D=config["BLOCK_D"], BLOCK_R=MERGE_ROWS
    )
    return out
