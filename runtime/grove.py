"""Token trees of one sequence with their KV rows, and the steps that compute some of their nodes."""

from __future__ import annotations

from collections.abc import Sequence as Sequences
from typing import NamedTuple

import numpy as np
import torch

from saguaro.runtime.sessions.device_copy import on_device
from saguaro.runtime.sessions.session import Step
from saguaro.runtime.speculation import Ranked
from saguaro.runtime.speculation.forest import Forest


class Part(NamedTuple):
    """What one sequence has computed in a step: tokens that lie in the KV rows from `write` on. All rows before
    `prefix` are seen, and of the others `seen[i]` by token i, its own row last."""

    prefix: int
    write: int
    tokens: list[int]
    seen: list[list[int]]

    @property
    def positions(self) -> list[int]:
        return [self.prefix + len(rows) - 1 for rows in self.seen]


class Grove:
    """A forest and where its nodes lie: the bonus token of the round in row `base`, a node where it was placed."""

    def __init__(self, forest: Forest, base: int, first_row: int, above: list[list[int]]):
        """
        Args:
            first_row: of the nodes' rows.
            above: for each root the rows from `base` on that it sees, but for its own.
        """
        self.forest, self.base = forest, base
        self.ranked: list[Ranked] = []  # after each computed node
        self._seen: list[list[int]] = []  # by each placed node
        self._next_row, self._above = first_row, above

    def place(self, nodes: list[int], width: int) -> Part:
        """Give the next nodes rows; `width` rows are taken, maybe more than there are nodes."""
        first = self._next_row
        self._next_row += width
        for row, node in enumerate(nodes, start=first):
            parent = self.forest.nodes[node].parent
            self._seen.append([*(self._above[node] if parent < 0 else self._seen[parent]), row])
        tokens = [self.forest.nodes[node].token for node in nodes]
        return Part(self.base, first, tokens, self._seen[len(self._seen) - len(nodes) :])

    def note(self, ranked: list[Ranked], tokens: np.ndarray, chances: np.ndarray) -> None:
        """What was found after the nodes placed last; see `Forest.note`."""
        self.ranked += ranked  # first, since the forest tells the round's thread
        self.forest.note(tokens, chances)

    def row(self, node: int) -> int:
        return self._seen[node][-1]


def tree_step(
    parts: Sequences[Part | None], width: int, idle_row: int, device: torch.device, first_slot: int = 0
) -> Step:
    """A step of `width` tokens for each sequence, filled up with tokens that see but the prefix and themselves.

    None: computed for nothing, in the rows from `idle_row` on.
    """
    prefix = [part.prefix if part else 0 for part in parts]
    write = [part.write if part else idle_row for part in parts]
    span = max((part.write + width - part.prefix for part in parts if part), default=1)
    tokens = np.zeros((len(parts), width), dtype=np.int64)
    positions = np.repeat(np.array(prefix)[:, None], width, axis=1)
    visible = np.zeros((len(parts), width, span), dtype=bool)
    for b, part in enumerate(parts):
        if not part:
            visible[b, :, 0] = True
            continue
        count = len(part.tokens)
        tokens[b, :count], positions[b, :count] = part.tokens, part.positions
        for t, rows in enumerate(part.seen):
            visible[b, t, np.array(rows) - part.prefix] = True
        padding = np.arange(count, width)
        visible[b, padding, part.write - part.prefix + padding] = True
    arrays = [on_device(array, device) for array in (tokens, positions, visible)]
    return Step(arrays[0], arrays[1], prefix, arrays[2], write, first_slot)
