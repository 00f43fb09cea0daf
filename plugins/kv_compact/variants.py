"""What `saguaro.plugins.compile` compiles of row compaction, and what TensorRT embeds."""

import triton.language as tl

from ..variants import Variant
from .kernel import block, compact_kernel, compact_pair_kernel

SIZES = (64, 80, 96, 128, 256)
STRIDES = ("stride_b", "stride_h", "stride_s")


def table_variant(bits: int, size: int, rows: int, moves: str = "i64") -> Variant:
    types = {"table_ptr": "*i64", "moves_ptr": f"*{moves}", "prefix_ptr": f"*{moves}"}
    types |= dict.fromkeys((*STRIDES, "kv_heads", "cache_rows", "count"), "i32")
    blocks = block(rows, size)
    options = {"num_warps": blocks.pop("num_warps")}
    constants = {"ELEMENT": getattr(tl, f"int{bits}"), "D": size, **blocks}
    name = f"{bits} bit D {size} rows {rows}" + (" i32" if moves == "i32" else "")
    return Variant(name, compact_kernel, types, constants, STRIDES, options)


def pair_variant(dtype: str, size: int, rows: int) -> Variant:
    cache = f"*{dtype}"
    types = {"k_ptr": cache, "v_ptr": cache, "moves_ptr": "*i32", "prefix_ptr": "*i32"}
    types |= {"k_out_ptr": cache, "v_out_ptr": cache}
    types |= dict.fromkeys(("kv_heads", "cache_rows", "count"), "i32")
    blocks = block(rows, size)
    options = {"num_warps": blocks.pop("num_warps")}
    constants = {"D": size, **blocks}
    return Variant(f"{dtype} D {size} rows {rows}", compact_pair_kernel, types, constants, (), options)


def variants() -> list[Variant]:
    made = [table_variant(bits, size, 8) for bits in (8, 16, 32, 64) for size in SIZES]
    made += [table_variant(16, 128, rows) for rows in (1, 64, 512)]
    made.append(table_variant(16, 128, 8, "i32"))
    made += [pair_variant(dtype, size, 8) for dtype in ("fp32", "fp16", "bf16") for size in SIZES]
    made += [pair_variant("fp16", 128, rows) for rows in (1, 64, 512)]
    return made
