"""Tree attention as two TensorRT plugins: shares of the cache, then their join. See embedding.py."""

from ..embedding import NAMESPACE, TENSORRT_NAMES, TRITON_TYPES, Target, implementation, triton_type
from .variants import merge_variant, split_variant

SPLIT, MERGE = f"{NAMESPACE}::tree_attention_split", f"{NAMESPACE}::tree_attention_merge"


def register(trt, trtp, target: Target) -> list[str]:
    """Registers both plugins.

    tree_attention_split(q [B, H, T, D], k_cache, v_cache [B, H_kv, S, D], ancestors [B, T, W] int32,
    prefix_length [B] int32; head_size, pairs, splits, scale) -> part [splits, B, H, T, D] float32, log
    [splits, B, H, T] float32. Tensors are contiguous. `pairs` is the largest H / H_kv * T that the engine
    will see, from which tiles are chosen; tactics 1 and 2 are tiles of 16 and of 32 of them.

    tree_attention_merge(part, log; head_size, precision) -> out [B, H, T, D] of "fp32", "fp16" or "bf16".
    """
    Desc = trtp.TensorDesc

    @trtp.register(SPLIT)
    def describe_split(
        q: Desc, k_cache: Desc, v_cache: Desc, ancestors: Desc, prefix_length: Desc,
        head_size: int, pairs: int, splits: int, scale: float,
    ) -> tuple[Desc, Desc]:  # fmt: skip
        batch, heads, queries, size = q.shape_expr
        part, log = q.like(), q.like()
        part.dtype = log.dtype = trt.DataType.FLOAT
        part.shape_expr = trtp.ShapeExprs.from_tuple((splits, batch, heads, queries, size))
        log.shape_expr = trtp.ShapeExprs.from_tuple((splits, batch, heads, queries))
        return part, log

    @trtp.autotune(SPLIT)
    def tune_split(
        q: Desc, k_cache: Desc, v_cache: Desc, ancestors: Desc, prefix_length: Desc,
        head_size: int, pairs: int, splits: int, scale: float, outputs: tuple[Desc],
    ) -> list[trtp.AutoTuneCombination]:  # fmt: skip
        floats = "|".join(TENSORRT_NAMES.values())
        types = f"{floats}, {floats}, {floats}, INT32, INT32, FP32, FP32"
        return [trtp.AutoTuneCombination(types, "LINEAR", list(tiles(pairs)))]

    @trtp.aot_impl(SPLIT)
    def implement_split(
        q: Desc, k_cache: Desc, v_cache: Desc, ancestors: Desc, prefix_length: Desc,
        head_size: int, pairs: int, splits: int, scale: float, outputs: tuple[Desc], tactic: int,
    ) -> tuple[str | bytes, str | bytes, trtp.KernelLaunchParams, trtp.SymIntExprs]:  # fmt: skip
        batch, heads, queries, size = q.shape_expr
        kv_heads, rows = k_cache.shape_expr[1], k_cache.shape_expr[2]
        chosen = tiles(pairs)[tactic or len(tiles(pairs))]
        variant = split_variant(triton_type(q.dtype), head_size, chosen, scale=scale)
        cache_strides = [kv_heads * rows * size, rows * size, size]
        integers = [
            heads * queries * size, queries * size, size, *cache_strides, *cache_strides,
            heads, kv_heads, queries, rows, ancestors.shape_expr[2], splits,
        ]  # fmt: skip
        blocks = trtp.cdiv(heads * queries, kv_heads * variant.constants["BLOCK_M"])
        return implementation(trtp, variant, target, (blocks, batch * kv_heads, splits), integers)

    @trtp.register(MERGE)
    def describe_merge(part: Desc, log: Desc, head_size: int, precision: str) -> Desc:
        out = part.like()
        out.dtype = {name: getattr(trt.DataType, key) for key, name in TRITON_TYPES.items()}[precision]
        out.shape_expr = trtp.ShapeExprs.from_tuple(tuple(part.shape_expr)[1:])
        return out

    @trtp.autotune(MERGE)
    def tune_merge(
        part: Desc, log: Desc, head_size: int, precision: str, outputs: tuple[Desc]
    ) -> list[trtp.AutoTuneCombination]:
        return [trtp.AutoTuneCombination(f"FP32, FP32, {TENSORRT_NAMES[precision]}", "LINEAR")]

    @trtp.aot_impl(MERGE)
    def implement_merge(
        part: Desc, log: Desc, head_size: int, precision: str, outputs: tuple[Desc], tactic: int
    ) -> tuple[str | bytes, str | bytes, trtp.KernelLaunchParams, trtp.SymIntExprs]:
        splits, batch, heads, queries, _ = part.shape_expr
        variant = merge_variant(precision, head_size)
        rows = batch * heads * queries
        blocks = trtp.cdiv(rows, variant.constants["BLOCK_R"])
        return implementation(trtp, variant, target, (blocks,), [rows, splits])

    return [SPLIT, MERGE]


def tiles(pairs: int) -> dict[int, int]:
    """Tactic -> the number of (head, query) pairs a tile is made for; no larger than needed."""
    return {1: 16, 2: 32} if pairs > 16 else {1: 16}
