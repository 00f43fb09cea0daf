"""One sequence's branches in a rollout: their tokens, their rankings, their KV rows."""

from __future__ import annotations

from itertools import accumulate

from saguaro.runtime.sessions.rollout import Rollout
from saguaro.runtime.speculation import Ranked, Speculation
from saguaro.runtime.speculation.cache import Drafted


class Branches:
    """Branch i continues outcome i: depth 0 computes the outcome's bonus token, depth d > 0 the branch's token x_d, and
    finds x_{d + 1}. Depth K finds nothing to hand over; it leaves the next round nothing to catch up with.

    What depth d computes lies in the KV row `first row + w_0 + ... + w_{d-1} + i`.
    """

    def __init__(self, rollout: Rollout, place: int, lookahead: int):
        """`place`: the sequence's index in the rollout."""
        self._rollout, self._place, self._lookahead = rollout, place, lookahead
        first = rollout.step.write_index[place]
        self._rows = [first + before for before in accumulate(rollout.widths, initial=0)]

    def drafted(self, branch: int) -> list[int]:
        """The branch's tokens so far, at most K."""
        depths = min(self.computed(branch), self._lookahead)
        tokens: list[int] = self._rollout.tokens[:depths, self._place, branch, 0].tolist()
        return tokens

    def speculation(self, branch: int) -> Drafted:
        return Speculation.chain(self.drafted(branch)), ()

    def computed(self, branch: int) -> int:
        """The depths that are done."""
        depths = self._rollout.progress.drafted
        while depths and self._rollout.widths[depths - 1] <= branch:  # no depth is wider than the one before
            depths -= 1
        return depths

    def row(self, branch: int, depth: int) -> int:
        return self._rows[depth] + branch

    def ranked(self, branch: int, depth: int) -> Ranked:
        """The candidates for its token of that depth."""
        return ranking(self._rollout, depth, self._place, branch)


def ranking(rollout: Rollout, depth: int, place: int, row: int) -> Ranked:
    return Ranked(rollout.tokens[depth, place, row], rollout.scores[depth, place, row])
