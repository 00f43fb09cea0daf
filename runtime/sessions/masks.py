"""A step's mask: whether it fits, and the dense one of the engine contract, for backends whose attention takes one."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from saguaro.errors import EngineError
from saguaro.runtime.sessions.session import Step


def check_step(step: Step, rows: int) -> None:
    """Raise EngineError when the step does not fit itself, or a cache of `rows` rows. Reads no tensor's values."""
    count, tokens = step.tokens.shape
    if step.visible.dim() != 3 or step.visible.shape[:2] != (count, tokens):
        raise EngineError(
            f"the mask of a step of {count} sequences by {tokens} tokens has the shape {list(step.visible.shape)}, "
            f"expected [{count}, {tokens}, R]; give each token its row"
        )
    if len(step.prefix) != count or len(step.write_index) != count:
        raise EngineError(
            f"a step of {count} sequences has {len(step.prefix)} prefix lengths and {len(step.write_index)} rows to "
            "write; give one of each for each sequence"
        )
    named = step.visible.shape[-1]
    for b, (prefix, write) in enumerate(zip(step.prefix, step.write_index, strict=True)):
        if not 0 <= prefix <= rows:
            raise EngineError(f"sequence {b} has a prefix of {prefix} rows, and the cache has {rows}; shorten it")
        if prefix + named > rows:
            raise EngineError(
                f"sequence {b} has a mask of {named} rows after a prefix of {prefix}, and the cache has {rows}; "
                "shorten it"
            )
        if not 0 <= write <= rows - tokens:
            raise EngineError(
                f"sequence {b} writes {tokens} rows from row {write} on, and the cache has {rows}; shorten it"
            )


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
