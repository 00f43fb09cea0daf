"""The speculation cache of one sequence and one round: outcome -> prepared speculation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from saguaro.runtime.speculation.tree import Outcome, Speculation

Drafted = tuple[Speculation, tuple[int, ...]]  # a speculation, and a forest's numbers of its nodes where it is a tree


class Prepared(NamedTuple):
    """A speculation that continues an outcome, and the draft's branch that holds its KV rows."""

    speculation: Speculation
    branch: int
    nodes: tuple[int, ...] = ()


class SpeculationCache:
    """The draft fills it while the target verifies, depth by depth; it is asked once, when the outcome is known.

    Since tokens never depend on what is speculated, it may be asked before the draft is done: it then gives what
    there is (design 3.6).
    """

    def __init__(self) -> None:
        self._branches: dict[Outcome, int] = {}
        self._drafted: Callable[[int], Drafted]

    def open(self, outcomes: Sequence[Outcome], drafted: Callable[[int], Drafted]) -> None:
        """Branch i continues `outcomes[i]`, and `drafted(i)` is its speculation so far."""
        self._drafted = drafted
        self._branches = {outcome: branch for branch, outcome in enumerate(outcomes)}

    def get(self, outcome: Outcome) -> Prepared | None:
        """The prepared speculation on a hit, of at least one token; None on a miss."""
        branch = self._branches.get(outcome)
        if branch is None:
            return None
        speculation, nodes = self._drafted(branch)
        return Prepared(speculation, branch, nodes) if speculation else None

    def __len__(self) -> int:
        return len(self._branches)
