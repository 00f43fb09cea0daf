"""Kernels that verify token trees on a GPU, each with a plain torch reference for everywhere else.

Every function picks the Triton kernel on CUDA tensors and the reference elsewhere. Triton is imported
only when a kernel is first used.
"""

from .kv_compact import kv_compact
from .noise import gumbel, noise_bits
from .tree_accept import perturbed_scores, tree_accept
from .tree_attention import pack_ancestors, tree_attention

__all__ = [
    "gumbel",
    "kv_compact",
    "noise_bits",
    "pack_ancestors",
    "perturbed_scores",
    "tree_accept",
    "tree_attention",
]
