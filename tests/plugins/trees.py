"""Hypothesis strategies for batches of token trees."""

from dataclasses import dataclass

import torch
from hypothesis import strategies as st


@dataclass
class Trees:
    """A ragged batch: `sizes[b]` real nodes, the rest padding (parent -1)."""

    parents: torch.Tensor  # [B, N] int64
    sizes: list[int]

    @property
    def batch(self) -> int:
        return self.parents.shape[0]

    @property
    def nodes(self) -> int:
        return self.parents.shape[1]

    def ancestors(self, b: int, node: int) -> set[int]:
        """The node and those above it, by following links one at a time."""
        found = set()
        while node >= 0:
            found.add(node)
            node = int(self.parents[b, node])
        return found


def shape(kind: str, nodes: int, draw) -> list[int]:
    if kind == "chain":
        return [-1, *range(nodes - 1)]
    if kind == "star":
        return [-1] + [0] * (nodes - 1)
    if kind == "comb":  # a chain of the even nodes, each with one leaf
        return [-1] + [max(0, n - 2) if n % 2 == 0 else n - 1 for n in range(1, nodes)]
    return [-1] + [draw(st.integers(0, n - 1)) for n in range(1, nodes)]


@st.composite
def trees(draw, max_batch: int = 4, max_nodes: int = 12, min_batch: int = 1) -> Trees:
    batch = draw(st.integers(min_batch, max_batch))
    sizes = [draw(st.integers(1, max_nodes)) for _ in range(batch)]
    nodes = max(sizes)
    rows = []
    for size in sizes:
        kind = draw(st.sampled_from(["chain", "star", "comb", "random"]))
        rows.append(shape(kind, size, draw) + [-1] * (nodes - size))
    return Trees(torch.tensor(rows), sizes)
