"""Token trees while they grow: one tree for each outcome that is prepared, best-first by path probability.

Design 3.1 and 3.6: the draft computes some nodes at a time, those of all trees that are likeliest to be used; what it
has ranked but not computed may end a path all the same, since the target computes every node that it verifies.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from typing import NamedTuple

import numpy as np

from saguaro.runtime.speculation.tree import Speculation


class Candidate(NamedTuple):
    """The `rank`-th best token after a computed node. They are ordered by chance, the best first."""

    cost: float  # minus the probability that the target takes this very path
    node: int
    rank: int


@dataclass
class Node:
    """`parent` and `chance` are those of the path that ends here; depth 0 is a root, a bonus token."""

    token: int
    parent: int
    depth: int
    chance: float
    tokens: np.ndarray | None = None  # [M], the candidates after it, once it is computed
    chances: np.ndarray | None = None  # [M], of each to be the target's token after this node


class Forest:
    """The draft's thread grows it; the round's thread asks for a tree once the outcome is known, maybe before the draft
    is done. A node counts when `computed` says so, after everything about it is there."""

    def __init__(self, roots: Sequence[tuple[int, float]], depth: int):
        """`roots`: the bonus tokens with their outcomes' chances. `depth`: most tokens on a path after a root."""
        self.nodes = [Node(token, -1, 0, chance) for token, chance in roots]
        self.computed = 0  # the first so many nodes
        self._depth = depth
        self._children: dict[tuple[int, int], int] = {}  # (node, rank) -> node
        self._open: list[Candidate] = []

    def grow(self, width: int, worth: float) -> list[int]:
        """Make nodes of the best candidates, at most `width`, and of none that is less likely than `worth`."""
        grown: list[int] = []
        while self._open and len(grown) < width and -self._open[0].cost >= worth:
            cost, parent, rank = heappop(self._open)
            above = self.nodes[parent]
            assert above.tokens is not None
            grown.append(len(self.nodes))
            self.nodes.append(Node(int(above.tokens[rank]), parent, above.depth + 1, -cost))
            self._push(parent, rank + 1)
            self._children[parent, rank] = grown[-1]
        return grown

    def note(self, tokens: np.ndarray, chances: np.ndarray) -> None:
        """The next nodes are computed: their candidates, best first, and the chances of these, `[nodes, M]` both."""
        for row in range(len(tokens)):
            node = self.nodes[self.computed]
            node.tokens, node.chances = tokens[row], chances[row]
            self._push(self.computed, 0)
            self.computed += 1

    def speculation(self, root: int, size: int) -> tuple[Speculation, tuple[int, ...]]:
        """The best `size` nodes below a root, and which nodes of the forest they are, -1 where none was made.

        Computed ones come first, so that their KV rows can lie together.
        """
        computed = self.computed
        if root >= computed:
            return Speculation((), ()), ()
        scale = self.nodes[root].chance
        best: list[tuple[float, int, int, int]] = []  # cost, place of the parent, node of the parent, rank
        self._consider(best, 0, root, 0, scale)
        tokens: list[int] = []
        parents: list[int] = []
        nodes: list[int] = []
        while best and len(tokens) < size:
            _, place, parent, rank = heappop(best)
            above = self.nodes[parent]
            assert above.tokens is not None
            child = self._children.get((parent, rank), -1)
            child = child if child < computed else -1
            tokens.append(int(above.tokens[rank]))
            parents.append(place)
            nodes.append(child)
            self._consider(best, place, parent, rank + 1, scale)
            if child >= 0:
                self._consider(best, len(tokens), child, 0, scale)
        return _computed_first(tokens, parents, nodes)

    def _push(self, node: int, rank: int) -> None:
        candidate = self._candidate(node, rank)
        if candidate:
            heappush(self._open, candidate)

    def _consider(
        self, best: list[tuple[float, int, int, int]], place: int, node: int, rank: int, scale: float
    ) -> None:
        candidate = self._candidate(node, rank)
        if candidate:
            heappush(best, (candidate.cost / scale, place, node, rank))

    def _candidate(self, node: int, rank: int) -> Candidate | None:
        above = self.nodes[node]
        if above.tokens is None or above.chances is None or above.depth >= self._depth or rank >= len(above.tokens):
            return None
        return Candidate(-above.chance * float(above.chances[rank]), node, rank)


def _computed_first(
    tokens: list[int], parents: list[int], nodes: list[int]
) -> tuple[Speculation, tuple[int, ...]]:
    """The same tree with its computed nodes first. A computed node's parent is computed, so parents stay in front."""
    order = sorted(range(len(tokens)), key=lambda i: (nodes[i] < 0, nodes[i]))
    number = {0: 0} | {old + 1: new + 1 for new, old in enumerate(order)}
    return (
        Speculation(tuple(tokens[i] for i in order), tuple(number[parents[i]] for i in order)),
        tuple(nodes[i] for i in order),
    )
