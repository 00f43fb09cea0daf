"""What `tree_accept` and `perturbed_scores` accept, with one sentence for each thing that they do not."""

import math
from numbers import Integral, Real

import torch

from ..devices import check_devices

FLOATS = (torch.float32, torch.float16, torch.bfloat16)


def per_sequence(value, batch: int, name: str, whole: bool = False) -> list:
    """A number, a sequence or a tensor [B] as a list of B numbers, integers where `whole`."""
    if isinstance(value, torch.Tensor):
        vector(value, batch, name, whole)
        value = value.tolist()
    kind, kinds = (Integral, "integers") if whole else (Real, "numbers")
    if isinstance(value, kind):
        return [value] * batch
    if not hasattr(value, "__len__") or not all(isinstance(one, kind) for one in value):
        raise TypeError(f"{name} must be {kinds}, one or one for each sequence, got {value!r:.80}")
    if len(value) != batch:
        raise ValueError(f"{name} must hold one value for each of the {batch} sequences, got {len(value)}")
    return list(value)


def vector(value: torch.Tensor, batch: int, name: str, whole: bool) -> None:
    """What can be seen of a tensor [B], or of one number, without reading it."""
    if whole and (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool):
        raise TypeError(f"{name} must be integers, got {value.dtype}")
    if value.dim() and value.shape != (batch,):
        raise ValueError(f"{name} must hold one value for each of the {batch} sequences, got {list(value.shape)}")


def sampling_settings(batch: int, temperature, top_k, top_p, min_p) -> list[tuple[float, int, float, float]]:
    """One (temperature, top_k, top_p, min_p) for each sequence, each in its range."""
    rows = list(
        zip(
            per_sequence(temperature, batch, "temperature"),
            per_sequence(top_k, batch, "top_k"),
            per_sequence(top_p, batch, "top_p"),
            per_sequence(min_p, batch, "min_p"),
            strict=True,
        )
    )
    for t, k, p, m in rows:
        if not (t >= 0 and math.isfinite(t)):
            raise ValueError(f"temperature must be 0 (greedy) or a positive finite number, got {t}")
        if k != int(k) or k < -1:
            raise ValueError(f"top_k must be a positive integer, or 0 or -1 for off, got {k}")
        if not 0 < p <= 1:
            raise ValueError(f"top_p must lie in (0, 1], 1 being off, got {p}")
        if not 0 <= m <= 1:
            raise ValueError(f"min_p must lie in [0, 1], 0 being off, got {m}")
    return [(t, int(k), p, m) for t, k, p, m in rows]


def logits_and_tree(logits, tokens, parents) -> None:
    """Types, shapes and devices of the three tensors; the tree's own values are `tree`'s matter."""
    for name, tensor in (("logits", logits), ("tokens", tokens), ("parents", parents)):
        if not isinstance(tensor, torch.Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}")
    if logits.dtype not in FLOATS:
        raise TypeError(f"logits must be float32, float16 or bfloat16, got {logits.dtype}")
    if logits.dim() != 3 or not logits.numel():
        raise ValueError(f"logits must be [B, N, V] and not empty, got shape {list(logits.shape)}")
    for name, tensor in (("tokens", tokens), ("parents", parents)):
        if tensor.dtype not in (torch.int64, torch.int32):
            raise TypeError(f"{name} must be int64 or int32, got {tensor.dtype}")
        if tensor.shape != logits.shape[:2]:
            raise ValueError(f"{name} must be [B, N] = {list(logits.shape[:2])} like logits, got {list(tensor.shape)}")
    check_devices({"logits": logits, "tokens": tokens, "parents": parents})


def tree(tokens: list[list[int]], parents: list[list[int]]) -> None:
    """Node 0 is the only root, and every other parent points back."""
    for b, (row, links) in enumerate(zip(tokens, parents, strict=True)):
        if links[0] != -1:
            raise ValueError(f"parents[{b}, 0] must be -1, since node 0 is the root, got {links[0]}")
        for node in range(1, len(links)):
            if not 0 <= links[node] < node and row[node] >= 0:
                raise ValueError(
                    f"parents[{b}, {node}] must be a node before {node}, got {links[node]} "
                    "(a padding node has token -1)"
                )
