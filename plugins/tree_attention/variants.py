"""What `saguaro.plugins.compile` compiles of tree attention, and what TensorRT embeds."""

from ..variants import Variant
from . import HEAD_SIZES
from .kernel import MERGE_ROWS, merge_kernel, split_kernel, tile

BYTES = {"fp32": 4, "fp16": 2, "bf16": 2}
STRIDES = tuple(f"stride_{x}" for x in ("qb", "qh", "qt", "kb", "kh", "ks", "vb", "vh", "vs"))
COUNTS = ("heads", "kv_heads", "queries", "cache_rows", "words", "splits")


def split_variant(dtype: str, size: int, pairs: int, prefix: str = "i32", scale: float | None = None) -> Variant:
    """`pairs`: (query head, query) pairs of a KV head; a scale that is given becomes a constant."""
    config = tile(size, BYTES[dtype], pairs)
    options = {key: config.pop(key) for key in ("num_warps", "num_stages", "maxnreg")}
    types = {"q_ptr": f"*{dtype}", "k_ptr": f"*{dtype}", "v_ptr": f"*{dtype}", "ancestors_ptr": "*i32"}
    types |= {"prefix_ptr": f"*{prefix}", "out_ptr": "*fp32", "log_ptr": "*fp32"}
    types |= dict.fromkeys((*STRIDES, *COUNTS), "i32")
    constants = {"D": size, "UPCAST": False, **config}
    if scale is None:
        types["scale"] = "fp32"
    else:
        constants["scale"] = scale
    name = f"{dtype} D {size} M {config['BLOCK_M']}"
    name += (" i64" if prefix == "i64" else "") + (" scale" if scale is not None else "")
    return Variant(name, split_kernel, types, constants, STRIDES, options)


def merge_variant(dtype: str, size: int) -> Variant:
    types = {"part_ptr": "*fp32", "log_ptr": "*fp32", "rows": "i32", "splits": "i32", "out_ptr": f"*{dtype}"}
    constants = {"D": size, "BLOCK_D": 1 << (size - 1).bit_length(), "BLOCK_R": MERGE_ROWS}
    return Variant(f"{dtype} D {size}", merge_kernel, types, constants, (), {"num_warps": 4})


def variants() -> list[Variant]:
    made: dict[tuple, Variant] = {}
    for dtype in BYTES:
        for size in HEAD_SIZES:
            for pairs in (16, 32):
                variant = split_variant(dtype, size, pairs)
                made["split", variant.name] = variant
            made["merge", dtype, size] = merge_variant(dtype, size)
        # 64-bit prefix lengths, and the scale that is a constant in TensorRT, matter little: at one size each.
        for variant in (split_variant(dtype, 128, 32, "i64"), split_variant(dtype, 128, 32, scale=128**-0.5)):
            made["split", variant.name] = variant
    return list(made.values())
