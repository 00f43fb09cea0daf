"""The speculation cache of one sequence and one round: outcome -> prepared speculation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from saguaro.runtime.speculation.tree import Outcome, Speculation


@dataclass(frozen=True)
class Prepared:
    """A speculation that continues an outcome, and the draft's branch that holds its KV rows."""

    speculation: Speculation
    branch: int


class SpeculationCache:
    """The draft fills it while the target verifies, depth by depth; it is asked once, when the outcome is known.

    Since tokens never depend on what is speculated, it may be asked before the draft is done: it then gives what
    there is (design 3.6), and closing it tells the draft to stop. One thread fills, another asks: the lists only
    grow.
    """

    def __init__(self) -> None:
        self._branches: dict[Outcome, int] = {}
        self._depths: list[list[int]] = []
        self.closed = False

    def open(self, outcomes: Sequence[Outcome]) -> None:
        """Branch i continues `outcomes[i]`."""
        self._branches = {outcome: branch for branch, outcome in enumerate(outcomes)}

    def extend(self, tokens: list[int]) -> None:
        """One more token for every branch."""
        self._depths.append(tokens)

    @property
    def drafted(self) -> int:
        """How many tokens every branch has so far."""
        return len(self._depths)

    def get(self, outcome: Outcome) -> Prepared | None:
        """The prepared speculation on a hit, of at least one token; None on a miss."""
        branch, depths = self._branches.get(outcome), self._depths[:]
        if branch is None or not depths:
            return None
        return Prepared(Speculation.chain([tokens[branch] for tokens in depths]), branch)

    def __len__(self) -> int:
        return len(self._branches)
