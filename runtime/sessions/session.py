"""What every backend offers the round loop: one loaded engine with its KV cache, on one device stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch


@dataclass
class Step:
    """The tokens of one forward pass for n sequences, which lie in the KV slots `first_slot ... first_slot + n - 1`.

    What a token sees: the first `prefix[b]` cache rows of its sequence, and of the R rows that follow them those
    that `visible[b, t]` names. This carries chains, token trees and the draft's branches alike, and leaves each
    backend the choice between a dense mask and a packed one.
    """

    tokens: torch.Tensor  # [n, T] int64
    positions: torch.Tensor  # [n, T] int64, absolute, for RoPE: a tree node's depth, not its row
    prefix: list[int]  # n
    visible: torch.Tensor  # [n, T, R] bool; each token sees at least its own row
    write_index: list[int]  # n: the cache row of each sequence's first token; the others follow it
    first_slot: int = 0


class Session(Protocol):
    """All methods are called from one thread, the one that owns the session's stream."""

    device: torch.device
    vocab_size: int
    max_batch_size: int
    rows: int  # KV rows of each slot

    def forward(self, step: Step) -> torch.Tensor:
        """Run one step and write its KV rows. Gives logits `[n, T, V]` float32, the caller's to keep."""
        ...

    def move_rows(self, slot: int, sources: list[int], target: int) -> None:
        """Copy the KV rows `sources` of a slot, in order, to the rows from `target` on; ranges may overlap."""
        ...

    def move_slot(self, source: int, target: int) -> None:
        """Copy a whole slot's KV cache over another's."""
        ...

    def close(self) -> None:
        """Give back the device memory."""
        ...
