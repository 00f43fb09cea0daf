"""Ancestor masks of token trees, packed 32 nodes to an int32."""

from functools import lru_cache

import torch

from ..devices import check_devices

MAX_NODES = 512


def pack_ancestors(parents: torch.Tensor) -> torch.Tensor:
    """Which tree rows each node sees: its ancestors and itself.

    Args:
        parents: [B, N] int64 or int32, 1 <= N <= 512; -1 at a root (there may be several), elsewhere an
            earlier node of the same sequence. A padding node is a root: it sees itself alone.

    Returns:
        int32 [B, N, ceil(N / 32)]: bit i % 32 of word i // 32 is set in row n when i is n or its ancestor.

    Raises:
        TypeError: parents that are not integers.
        ValueError: a wrong shape, or a parent that does not point back (checked on the CPU only, since
            reading values from a GPU would wait for it; there such a link counts as a root).
    """
    if not isinstance(parents, torch.Tensor) or parents.dtype not in (torch.int64, torch.int32):
        got = parents.dtype if isinstance(parents, torch.Tensor) else type(parents).__name__
        raise TypeError(f"parents must be an int64 or int32 tensor, got {got}")
    if parents.dim() != 2 or not 1 <= parents.shape[1] <= MAX_NODES:
        raise ValueError(f"parents must be [B, N] with N from 1 to {MAX_NODES}, got shape {list(parents.shape)}")
    check_devices({"parents": parents})
    nodes = torch.arange(parents.shape[1], device=parents.device)
    backward = (parents < nodes) & (parents >= -1)
    if parents.device.type == "cpu" and not bool(backward.all()):
        b, n = (~backward).nonzero()[0].tolist()
        raise ValueError(f"parents[{b}, {n}] must be -1 or a node before {n}, got {parents[b, n].item()}")
    # Pointer jumping: after step i a mask holds the nearest 2^i ancestors, and `jump` is the 2^i-th one.
    mask = own_bits(parents.shape[1], parents.device).expand(*parents.shape, -1).clone()
    jump = torch.where(backward, parents, -1).long()
    words = mask.shape[-1]
    for _ in range((parents.shape[1] - 1).bit_length()):
        at = jump.clamp(min=0)
        further = mask.gather(1, at.unsqueeze(-1).expand(-1, -1, words))
        mask |= torch.where(jump.unsqueeze(-1) >= 0, further, 0)
        jump = torch.where(jump >= 0, jump.gather(1, at), -1)
    return mask


@lru_cache(maxsize=64)
def own_bits(nodes: int, device: torch.device) -> torch.Tensor:
    """int32 [N, ceil(N / 32)]: each node's own bit."""
    node = torch.arange(nodes)
    bits = torch.zeros(nodes, (nodes + 31) // 32, dtype=torch.int64)
    bits[node, node // 32] = 1 << (node % 32)
    return bits.to(torch.int32).to(device)


def unpack(ancestors: torch.Tensor, rows: int) -> torch.Tensor:
    """bool [B, T, rows] from the packed words [B, T, W], rows <= 32 W."""
    bits = (ancestors.unsqueeze(-1) >> torch.arange(32, dtype=torch.int32, device=ancestors.device)) & 1
    return bits.flatten(-2)[..., :rows].bool()
