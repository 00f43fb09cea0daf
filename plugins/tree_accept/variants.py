"""What `saguaro.plugins.compile` compiles of tree acceptance, and what TensorRT embeds."""

from ..variants import Variant
from .kernel import SAMPLE_OPTIONS, SLICE, WALK_OPTIONS, sample_kernel, walk_kernel

LOGITS = ("fp32", "fp16", "bf16")
BLOCKS = {1: 1024, 2: 512, 3: 2048}  # TensorRT's tactic -> tokens that a program of the first pass reads at once

TYPES = {
    "tokens_ptr": "*i64", "parents_ptr": "*i64", "seed_ptr": "*i64", "position_ptr": "*i64",
    "temperature_ptr": "*fp32", "top_k_ptr": "*i32", "top_p_ptr": "*fp32", "min_p_ptr": "*fp32",
    "score_ptr": "*fp32", "token_ptr": "*i32", "top_ptr": "*fp32",
    "nodes": "i32", "vocab_size": "i32", "slices": "i32",
    "path_ptr": "*i64", "length_ptr": "*i64", "bonus_ptr": "*i64",
}  # fmt: skip


def sample_variant(logits: str, slice_: int = SLICE, block: int = 1024, aligned: bool = True) -> Variant:
    """`logits` is "fp32", "fp16" or "bf16"; aligned: the vocabulary is a multiple of 16."""
    types = {n: TYPES.get(n) or f"*{logits}" for n in sample_kernel.arg_names if n not in ("SLICE", "BLOCK")}
    name = f"{logits} slice {slice_} block {block}" + ("" if aligned else " odd V")
    constants = {"SLICE": slice_, "BLOCK": block}
    return Variant(name, sample_kernel, types, constants, ("vocab_size",) if aligned else (), dict(SAMPLE_OPTIONS))


def walk_variant(logits: str, nodes: int, slices: int, block: int = 2048, aligned: bool = True) -> Variant:
    """`nodes` and `slices` are powers of two."""
    constants = {"BLOCK": block, "NODES": nodes, "SLICES": slices}
    types = {n: TYPES.get(n) or f"*{logits}" for n in walk_kernel.arg_names if n not in constants}
    name = f"{logits} N {nodes} slices {slices}" + ("" if aligned else " odd V")
    return Variant(name, walk_kernel, types, constants, ("vocab_size",) if aligned else (), dict(WALK_OPTIONS))


def variants() -> list[Variant]:
    made = [sample_variant(logits) for logits in LOGITS]
    made += [sample_variant(logits, SLICE, block, aligned=False) for logits in LOGITS for block in BLOCKS.values()]
    made += [walk_variant(logits, 8, 32) for logits in LOGITS]
    made += [walk_variant("fp32", nodes, 64) for nodes in (1, 64, 512)]
    made += [walk_variant(logits, 64, 64, aligned=False) for logits in LOGITS]
    return made
