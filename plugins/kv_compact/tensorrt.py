"""Row compaction of one layer's caches as a TensorRT plugin. See embedding.py.

A plugin has a fixed list of tensors, so this moves one layer's K and V; an engine that compacts needs one
for each layer. Beside an engine, on its stream, `kv_compact` moves all layers in one launch: mostly better.
"""

from ..embedding import NAMESPACE, TENSORRT_NAMES, Target, implementation, triton_type
from .variants import pair_variant

COMPACT = f"{NAMESPACE}::kv_compact"


def register(trt, trtp, target: Target) -> list[str]:
    """Registers kv_compact(k_cache, v_cache [B, H_kv, S, D], rows [B, A] int32, prefix_length [B] int32;
    head_size, max_rows) -> the caches, aliased: the outputs are the inputs' memory. The build needs the
    preview feature ALIASED_PLUGIN_IO_10_03. `max_rows` bounds A.
    """
    Desc = trtp.TensorDesc

    @trtp.register(COMPACT)
    def describe(
        k_cache: Desc, v_cache: Desc, rows: Desc, prefix_length: Desc, head_size: int, max_rows: int
    ) -> tuple[Desc, Desc]:
        return k_cache.aliased(), v_cache.aliased()

    @trtp.autotune(COMPACT)
    def tune(
        k_cache: Desc, v_cache: Desc, rows: Desc, prefix_length: Desc, head_size: int, max_rows: int,
        outputs: tuple[Desc],
    ) -> list[trtp.AutoTuneCombination]:  # fmt: skip
        floats = "|".join(TENSORRT_NAMES.values())
        return [trtp.AutoTuneCombination(f"{floats}, {floats}, INT32, INT32, {floats}, {floats}", "LINEAR")]

    @trtp.aot_impl(COMPACT)
    def implement(
        k_cache: Desc, v_cache: Desc, rows: Desc, prefix_length: Desc, head_size: int, max_rows: int,
        outputs: tuple[Desc], tactic: int,
    ) -> tuple[str | bytes, str | bytes, trtp.KernelLaunchParams, trtp.SymIntExprs]:  # fmt: skip
        batch, kv_heads, cache_rows, _ = k_cache.shape_expr
        variant = pair_variant(triton_type(k_cache.dtype), head_size, max_rows)
        slices = -(-head_size // variant.constants["BLOCK_D"])
        grid = (2, batch * kv_heads, slices)
        return implementation(trtp, variant, target, grid, [kv_heads, cache_rows, rows.shape_expr[1]])

    return [COMPACT]
