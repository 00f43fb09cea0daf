"""What travels between draft and target: a token tree to verify, and the outcome of verifying it.

Nodes are numbered from 1 in an order where parents come first; node 0 is the root, the bonus token of the last
round, which is verified along with them. A chain is the tree whose every parent is the node before.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Outcome(NamedTuple):
    """`node` is the last accepted node (0: none; in a chain the number k of accepted tokens), `bonus` is t*."""

    node: int
    bonus: int


@dataclass(frozen=True)
class Speculation:
    """`tokens[i]` is the token of node `i + 1` and `parents[i]` the number of its parent node."""

    tokens: tuple[int, ...]
    parents: tuple[int, ...]

    @classmethod
    def chain(cls, tokens: tuple[int, ...] | list[int]) -> Speculation:
        return cls(tuple(tokens), tuple(range(len(tokens))))

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def is_chain(self) -> bool:
        return self.parents == tuple(range(len(self.tokens)))

    def depths(self) -> list[int]:
        """Of every node, the root's 0 first: how far its position lies behind the root's."""
        depths = [0]
        for parent in self.parents:
            depths.append(depths[parent] + 1)
        return depths

    @property
    def depth(self) -> int:
        """Of its longest path."""
        return max(self.depths())

    def tried(self, node: int) -> tuple[int, int]:
        """Where the last accepted node is `node`: tokens accepted one after the other, and tested. That is one more
        where the node had children, none of which was right."""
        accepted = len(self.path(node))
        return accepted, accepted + (node in self.parents)

    def path(self, node: int) -> list[int]:
        """The nodes from below the root down to `node`."""
        path: list[int] = []
        while node > 0:
            path.append(node)
            node = self.parents[node - 1]
        return path[::-1]

    def ancestors(self) -> list[list[bool]]:
        """`[N + 1][N + 1]`: whether the node of the row sees the node of the column; each sees itself."""
        size = len(self.tokens) + 1
        seen = [[False] * size for _ in range(size)]
        for node in range(size):
            for ancestor in (0, *self.path(node)):
                seen[node][ancestor] = True
        return seen


EMPTY = Speculation((), ())
