"""The speculation cache of one sequence and one round: outcome -> prepared speculation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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
    there is (design 3.6).
    """

    def __init__(self) -> None:
        self._branches: dict[Outcome, int] = {}
        self._drafted: Callable[[int], list[int]] = _nothing

    def open(self, outcomes: Sequence[Outcome], drafted: Callable[[int], list[int]]) -> None:
        """Branch i continues `outcomes[i]`, and `drafted(i)` are its tokens so far."""
        self._drafted = drafted
        self._branches = {outcome: branch for branch, outcome in enumerate(outcomes)}

    def get(self, outcome: Outcome) -> Prepared | None:
        """The prepared speculation on a hit, of at least one token; None on a miss."""
        branch = self._branches.get(outcome)
        tokens = [] if branch is None else self._drafted(branch)
        return Prepared(Speculation.chain(tokens), branch) if branch is not None and tokens else None

    def __len__(self) -> int:
        return len(self._branches)


def _nothing(branch: int) -> list[int]:
    return []
