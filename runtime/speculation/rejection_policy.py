"""The adaptive outcome policy under rejection verification, where the draft may look at the round's coins.

A candidate is (k, j) as in `adaptive`: k tokens accepted, then the j-th ranked token as bonus. Its probability is
`prod_{i<k} a(u_i) * (1 - a(u_k)) * p(j)`: a small uniform u is surely an acceptance, a large one leaves it open, which
is a table that is counted online; and the bonus token is the argmax of something like the draft's distribution under
noise that is known, of which `ScoreNoise` measures how like it is, apart for rejections and the chain's end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from saguaro.runtime.speculation.outcomes import Choice, Lesson, Ranked
from saguaro.runtime.speculation.policy import OutcomePolicy, outcome_policy
from saguaro.runtime.speculation.score_noise import ScoreNoise
from saguaro.runtime.speculation.tree import Outcome

UNIFORM_BINS = 10
PRIOR_WEIGHT = 4.0  # how many observations the prior is worth
STOP, END = 0, 1  # where a bonus token stands: after a rejection, or after all of the chain


class RejectionPolicy:
    """For requests that sample. At k < K the first of `ranked[k]` is the proposed token, and its score the uniform that
    decides about it: see `Proposals.ranked`."""

    def __init__(self, budget: int, lookahead: int):
        self.budget, self.lookahead = budget, lookahead
        middles = (np.arange(UNIFORM_BINS) + 0.5) / UNIFORM_BINS
        self.tested = np.full(UNIFORM_BINS, PRIOR_WEIGHT)
        self.accepted = PRIOR_WEIGHT * (1 - 0.5 * middles)
        self.score_noise = ScoreNoise()

    def candidates(self) -> int:
        return min(self.budget, 3 + self.budget // 2) + 1

    def choose(self, ranked: Sequence[Ranked], speculated: Sequence[int], after_hit: bool) -> Choice:
        tokens, scores = _bonuses(ranked)
        bins = _uniform_bins(ranked[:-1])
        accepts = self.accepted[bins] / self.tested[bins]
        reached = np.cumprod([1.0, *accepts])
        stops = np.append(1 - accepts, 1.0)
        chances = np.concatenate(
            [self.score_noise.chances(scores[:-1], STOP), self.score_noise.chances(scores[-1:], END)]
        )
        best = np.argsort(-((reached * stops)[:, None] * chances).ravel(), kind="stable")[: self.budget]
        outcomes = list(map(Outcome, (best // tokens.shape[1]).tolist(), tokens.ravel()[best].tolist()))
        return Choice(outcomes, [len(outcomes)] * self.lookahead + [0])

    def learn(self, lessons: Sequence[Lesson]) -> None:
        for ranked, speculation, (node, bonus), _ in lessons:
            bins = _uniform_bins(ranked[: min(node + 1, len(speculation))])
            np.add.at(self.tested, bins, 1)
            np.add.at(self.accepted, bins[:node], 1)
            tokens, scores = _bonuses(ranked)
            here = slice(node, node + 1)
            situation = END if node == len(speculation) else STOP
            self.score_noise.learn(scores[here], tokens[here], np.array([bonus]), situation)


def _bonuses(ranked: Sequence[Ranked]) -> tuple[np.ndarray, np.ndarray]:
    """The candidates for the bonus token and their scores, `[K + 1, M - 1]` both."""
    end = len(ranked) - 1
    tokens = np.array([one.tokens[1:] if k < end else one.tokens[:-1] for k, one in enumerate(ranked)])
    return tokens, np.array([one.scores[1:] if k < end else one.scores[:-1] for k, one in enumerate(ranked)])


def _uniform_bins(ranked: Sequence[Ranked]) -> np.ndarray:
    uniforms = np.array([one.scores[0] for one in ranked], dtype=np.float64)
    return np.minimum((uniforms * UNIFORM_BINS).astype(np.int64), UNIFORM_BINS - 1)


def rejection_policies(kind: str | list[int], budget: int, lookahead: int) -> Callable[[bool], OutcomePolicy]:
    """Makes the policies that a deployment's `speculation.fan_out` names, for greedy requests or the others."""

    def make(greedy: bool) -> OutcomePolicy:
        if kind == "adaptive" and not greedy:
            return RejectionPolicy(budget, lookahead)
        return outcome_policy(kind, budget, lookahead)

    return make
