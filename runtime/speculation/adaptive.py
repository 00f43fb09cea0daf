"""The adaptive outcome policy: score every candidate by its probability in this round, take the best B.

A candidate is (k, j): k tokens accepted, then the draft's j-th ranked token as bonus. Its probability is
`prod_{i<k} a(m_i) * p(j, g)`: each token before it accepted, given the draft's margin there, and the j-th token
right where the chain stops, given how far its score lies behind the best. Both tables are counted online.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from saguaro.runtime.speculation.outcomes import Ranked
from saguaro.runtime.speculation.tree import Outcome

GAPS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0)  # edges of bins, in units of the scores
RANKS = (0, 1, 2, 3, 5, 8, 12)  # first ranks of groups: 0 is the draft's own choice
PRIOR_WEIGHT = 4.0  # how many observations the prior is worth


class AdaptivePolicy:
    """Statistics and choices for requests of one kind of score (greedy, or perturbed by noise)."""

    def __init__(self, budget: int):
        self.budget = budget
        prior = [[_prior(group, gap) for gap in range(len(GAPS) + 1)] for group in range(len(RANKS))]
        self.seen = np.full((len(RANKS), len(GAPS) + 1), PRIOR_WEIGHT)
        self.right = PRIOR_WEIGHT * np.array(prior)

    def depth(self, lookahead: int) -> int:
        return min(self.budget, 3 + self.budget // 2) + 1

    def choose(self, ranked: Sequence[Ranked], speculated: Sequence[int]) -> list[Outcome]:
        tokens = np.array([candidates.tokens for candidates in ranked])  # [K + 1, M]
        cells = _cells(ranked)
        probabilities = self.right[cells] / self.seen[cells]
        chain = tokens == np.array([*speculated, -1])[:, None]
        accepted = np.where(chain, probabilities, 0).sum(1)[:-1]
        reached = np.concatenate([[1.0], accepted.cumprod()])
        scores = np.where(chain, 0.0, probabilities * reached[:, None])
        best = np.argsort(-scores, axis=None)[: self.budget]
        columns = tokens.shape[1]
        flat = tokens.ravel()
        return [Outcome(i // columns, int(flat[i])) for i in best.tolist() if scores.flat[i] > 0]

    def learn(self, ranked: Sequence[Ranked], speculated: Sequence[int], outcome: Outcome) -> None:
        reached = ranked[: outcome.node + 1]
        truth = np.array([*speculated[: outcome.node], outcome.bonus])
        cells = _cells(reached)
        np.add.at(self.seen, cells, 1)
        np.add.at(self.right, cells, np.array([candidates.tokens for candidates in reached]) == truth[:, None])


def _cells(ranked: Sequence[Ranked]) -> tuple[np.ndarray, np.ndarray]:
    """For each candidate its cell of the tables: group of ranks, and bin of its gap (of the best: to the second)."""
    scores = np.array([candidates.scores for candidates in ranked])
    gaps = scores[:, :1] - scores
    gaps[:, 0] = gaps[:, min(1, scores.shape[1] - 1)]
    groups = np.searchsorted(RANKS, np.arange(scores.shape[1]), side="right") - 1
    return np.broadcast_to(groups, gaps.shape), np.searchsorted(GAPS, gaps, side="right")


def _prior(group: int, gap: int) -> float:
    """Before anything was seen: a wide margin is trusted, a candidate far behind is not."""
    middle = (0.0, *GAPS)[gap]
    if group == 0:
        return 0.4 + 0.58 * min(1.0, middle / 5)
    return 0.3 / RANKS[group] * max(0.02, 1 - middle / 6)
