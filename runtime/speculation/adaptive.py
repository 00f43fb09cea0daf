"""The adaptive outcome policy: score every candidate by its probability in this round, take the best B.

A candidate is (k, j): k tokens accepted, then the draft's j-th ranked token as bonus. Its probability is
`prod_{i<k} a(m_i) * p(j, g)`: each token before it accepted, given the draft's margin there, and the j-th token
right where the chain stops, given how far its score lies behind the best. The tables are counted online, apart for
rounds after a hit and after a fallback.

An outcome of chance p needs its (d + 1)-th token with chance p a^(d + 1), a the acceptance rate: it must happen, and
d + 1 tokens must be accepted. So unlikely outcomes get shorter speculations, and the draft's time goes where it is
likely to be used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from saguaro.runtime.speculation.outcomes import Choice, Ranked
from saguaro.runtime.speculation.tree import Outcome, Speculation

GAPS = (0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.0, 10.0)  # edges of bins, in units of the scores
RANKS = (0, 1, 2, 3, 5, 8, 12)  # first ranks of groups: 0 is the draft's own choice
GAP_EDGES = np.array(GAPS, dtype=np.float32)
RANK_GROUPS = np.searchsorted(RANKS, np.arange(4096), side="right") - 1
LIKELY = 0.1  # the chance that an outcome must have for its last token to be computed in advance
PRIOR_WEIGHT = 4.0  # how many observations the prior is worth


class AdaptivePolicy:
    """Statistics and choices for requests of one kind of score (greedy, or perturbed by noise)."""

    worth = 0.02  # the chance of being used that a drafted token must have

    def __init__(self, budget: int, lookahead: int):
        self.budget, self.lookahead = budget, lookahead
        chances = [[prior(group, gap) for gap in range(len(GAPS) + 1)] for group in range(len(RANKS))]
        self.seen = np.full((2, len(RANKS), len(GAPS) + 1), PRIOR_WEIGHT)  # after a fallback, after a hit
        self.right = PRIOR_WEIGHT * np.array([chances, chances])
        self.tested, self.accepted = 10.0, 7.0  # as if seven of ten tokens had been accepted

    def candidates(self) -> int:
        return min(self.budget, 3 + self.budget // 2) + 1

    def choose(self, ranked: Sequence[Ranked], speculated: Sequence[int], after_hit: bool) -> Choice:
        tokens, probabilities = self.probabilities(ranked, after_hit)  # [K + 1, M]
        chain = tokens == np.array([*speculated, -1])[:, None]
        accepted = (probabilities * chain).sum(1)
        reached = np.ones(len(ranked))
        np.cumprod(accepted[:-1], out=reached[1:])
        scores = (probabilities * reached[:, None] * ~chain).ravel()
        best = np.argsort(-scores)[: self.budget]
        chances = scores[best]
        possible = chances > 0
        best, chances = best[possible], chances[possible]
        nodes, bonuses = best // tokens.shape[1], tokens.ravel()[best]
        outcomes = list(map(Outcome, nodes.tolist(), bonuses.tolist()))
        used = np.multiply.outer((self.accepted / self.tested) ** np.arange(1, self.lookahead + 1), chances)
        widths = [len(outcomes), *(used[1:] >= self.worth).sum(1).tolist()]
        return Choice(outcomes, [*widths, min(widths[-1], int((chances >= LIKELY).sum()))])

    def learn(
        self, ranked: Sequence[Ranked], speculated: Sequence[int], outcome: Outcome, after_hit: bool
    ) -> None:
        self.accepted += outcome.node
        self.tested += min(outcome.node + 1, len(speculated))
        self._count(ranked[: outcome.node + 1], [*speculated[: outcome.node], outcome.bonus], after_hit)

    def choose_in_tree(
        self, ranked: Sequence[Ranked], speculation: Speculation, after_hit: bool
    ) -> list[tuple[Outcome, float]]:
        """The best B outcomes of a token tree with their probabilities, best first; `ranked[i]` are the candidates
        after node i, the root's first. A node's children are no candidates for its bonus token."""
        tokens, probabilities = self.probabilities(ranked, after_hit)
        chances = probabilities.copy()
        reached = np.ones(len(ranked))
        for node, (token, parent) in enumerate(zip(speculation.tokens, speculation.parents, strict=True), start=1):
            same = tokens[parent] == token
            reached[node] = reached[parent] * (probabilities[parent] * same).sum()
            chances[parent][same] = 0
        scores = (chances * reached[:, None]).ravel()
        best = np.argsort(-scores)[: self.budget]
        best = best[scores[best] > 0]
        nodes, bonuses = best // tokens.shape[1], tokens.ravel()[best]
        return list(zip(map(Outcome, nodes.tolist(), bonuses.tolist()), scores[best].tolist(), strict=True))

    def learn_in_tree(
        self, ranked: Sequence[Ranked], speculation: Speculation, outcome: Outcome, after_hit: bool
    ) -> None:
        """Take in what the target made of a token tree, of whose nodes the first `len(ranked)` are computed."""
        path = speculation.path(outcome.node)
        accepted, tested = speculation.tried(outcome.node)
        self.accepted += accepted
        self.tested += tested
        truth = [*(speculation.tokens[node - 1] for node in path), outcome.bonus]
        known = [(ranked[node], token) for node, token in zip((0, *path), truth, strict=True) if node < len(ranked)]
        if known:
            self._count([candidates for candidates, _ in known], [token for _, token in known], after_hit)

    def probabilities(self, ranked: Sequence[Ranked], after_hit: bool) -> tuple[np.ndarray, np.ndarray]:
        """The candidates' tokens, and each one's chance to be the target's own token there: `[rows, M]` both."""
        tokens, cells = self._cells(ranked)
        return tokens, self.right[int(after_hit)][cells] / self.seen[int(after_hit)][cells]

    def statistics(self) -> dict[str, Any]:
        return {
            "seen": self.seen.tolist(), "right": self.right.tolist(), "tested": self.tested, "accepted": self.accepted,
        }  # fmt: skip

    def restore(self, statistics: dict[str, Any]) -> None:
        seen, right = (np.array(statistics.get(name), dtype=float) for name in ("seen", "right"))
        tested, accepted = (float(statistics.get(name, "none")) for name in ("tested", "accepted"))
        if not (seen.shape == right.shape == self.seen.shape) or not (right >= 0).all() or not (right <= seen).all():
            raise ValueError("seen and right are no tables of counts")
        if not (seen > 0).all() or not 0 <= accepted <= tested or not 0 < tested < float("inf"):
            raise ValueError("tested and accepted, or seen, are no counts")
        self.seen, self.right, self.tested, self.accepted = seen, right, tested, accepted

    def _count(self, ranked: Sequence[Ranked], truth: Sequence[int], after_hit: bool) -> None:
        """Take in which token was the target's own after each of some nodes."""
        tokens, cells = self._cells(ranked)
        np.add.at(self.seen[int(after_hit)], cells, 1)
        np.add.at(self.right[int(after_hit)], cells, tokens == np.array(truth)[:, None])

    def _cells(self, ranked: Sequence[Ranked]) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """The candidates' tokens, and their cells of the tables: group of ranks, and bin of the gap to the best (of the
        best: to the second). All `[K + 1, M]`."""
        tokens = np.array([candidates.tokens for candidates in ranked])
        scores = np.array([candidates.scores for candidates in ranked])
        gaps = scores[:, :1] - scores
        gaps[:, 0] = gaps[:, min(1, scores.shape[1] - 1)]
        groups = np.empty(scores.shape, dtype=np.int64)
        groups[:] = RANK_GROUPS[: scores.shape[1]]
        return tokens, (groups, np.searchsorted(GAP_EDGES, gaps, side="right"))


def prior(group: int, gap: int) -> float:
    """Before anything was seen: a wide margin is trusted, a candidate far behind is not."""
    middle = (0.0, *GAPS)[gap]
    if group == 0:
        return 0.4 + 0.58 * min(1.0, middle / 5)
    return 0.3 / RANKS[group] * max(0.02, 1 - middle / 6)
