"""The dense mask of the engine contract, for backends whose attention takes one."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def dense_mask(prefix: list[int], visible: torch.Tensor) -> torch.Tensor:
    """Which cache rows each token sees: bool `[n, 1, T, S']`, S' = the longest prefix + R.

    Args:
        prefix: for each sequence, how many rows at the front every token sees.
        visible: bool `[n, T, R]`, which of the R rows after the prefix each token sees.
    """
    longest = max(prefix)
    if all(rows == longest for rows in prefix):
        return F.pad(visible, (longest, 0), value=True).unsqueeze(1)
    count, steps, width = visible.shape
    mask = visible.new_zeros(count, 1, steps, longest + width)
    for b, rows in enumerate(prefix):
        mask[b, :, :, :rows] = True
        mask[b, 0, :, rows : rows + width] = visible[b]
    return mask
