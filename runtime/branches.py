"""One sequence's branches in a rollout: their tokens, their rankings, their KV rows."""

from __future__ import annotations

from itertools import accumulate

from saguaro.runtime.sessions.rollout import Rollout
from saguaro.runtime.speculation import Ranked


class Branches:
    """Branch i continues outcome i. Its token of depth d is in the KV row `first row + w_0 + ... + w_{d-1} + i`."""

    def __init__(self, rollout: Rollout, place: int):
        """`place`: the sequence's index in the rollout."""
        self._rollout, self._place = rollout, place
        first = rollout.step.write_index[place]
        self._rows = [first + before for before in accumulate(rollout.widths, initial=0)]

    def drafted(self, branch: int) -> list[int]:
        """The branch's tokens so far."""
        depths = sum(width > branch for width in self._rollout.widths[: self._rollout.progress.drafted])
        tokens: list[int] = self._rollout.tokens[:depths, self._place, branch, 0].tolist()
        return tokens

    def row(self, branch: int, depth: int) -> int:
        return self._rows[depth] + branch

    def ranked(self, branch: int, depth: int) -> Ranked:
        """The candidates for its token of that depth."""
        return ranking(self._rollout, depth, self._place, branch)


def ranking(rollout: Rollout, depth: int, place: int, row: int) -> Ranked:
    return Ranked(rollout.tokens[depth, place, row], rollout.scores[depth, place, row])
