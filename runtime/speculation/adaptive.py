"""The adaptive outcome policy: score every candidate by its probability in this round, take the best B.

A candidate is (k, j): k tokens accepted, then the draft's j-th ranked token as bonus. Its probability is
`prod_{i<k} p(x_{i+1}) * p(j)`: each token of the chain before it the target's own, and the j-th candidate where the
chain stops. Both are read off the draft's scores there, as `ScoreNoise` measures what they are worth, apart for rounds
after a hit and after a fallback.

An outcome of chance p needs its (d + 1)-th token with chance p a^(d + 1), a the acceptance rate: it must happen, and
d + 1 tokens must be accepted. So unlikely outcomes get shorter speculations, and the draft's time goes where it is
likely to be used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from saguaro.runtime.speculation.outcomes import Choice, Lesson, Ranked
from saguaro.runtime.speculation.score_noise import ScoreNoise
from saguaro.runtime.speculation.tree import Outcome, Speculation

LIKELY = 0.1  # the chance that an outcome must have for its last token to be computed in advance


class AdaptivePolicy:
    """Statistics and choices for requests of one kind of score (greedy, or perturbed by noise)."""

    worth = 0.01  # the chance of being used that a drafted token must have

    def __init__(self, budget: int, lookahead: int):
        self.budget, self.lookahead = budget, lookahead
        self.score_noise = ScoreNoise()
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

    def learn(self, lessons: Sequence[Lesson]) -> None:
        for after_hit in (False, True):
            known: list[tuple[Ranked, int]] = []  # candidates, and the target's own token in their place
            for ranked, speculation, (node, bonus), _ in (one for one in lessons if one.after_hit is after_hit):
                accepted, tested = speculation.tried(node)
                self.accepted, self.tested = self.accepted + accepted, self.tested + tested
                path = speculation.path(node)
                truth = [*(speculation.tokens[node - 1] for node in path), bonus]
                known += [
                    (ranked[node], token) for node, token in zip((0, *path), truth, strict=True) if node < len(ranked)
                ]
            if known:
                tokens, scores = _arrays([candidates for candidates, _ in known])
                self.score_noise.learn(scores, tokens, np.array([token for _, token in known]), int(after_hit))

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

    def probabilities(self, ranked: Sequence[Ranked], after_hit: bool) -> tuple[np.ndarray, np.ndarray]:
        """The candidates' tokens, and each one's chance to be the target's own token there: `[rows, M]` both."""
        tokens, scores = _arrays(ranked)
        return tokens, self.score_noise.chances(scores, int(after_hit))

    def statistics(self) -> dict[str, Any]:
        return {**self.score_noise.statistics(), "tested": self.tested, "accepted": self.accepted}

    def restore(self, statistics: dict[str, Any]) -> None:
        tested, accepted = (float(statistics.get(name, "none")) for name in ("tested", "accepted"))
        if not 0 <= accepted <= tested or not 0 < tested < float("inf"):
            raise ValueError("tested and accepted are no counts")
        self.score_noise.restore(statistics)
        self.tested, self.accepted = tested, accepted


def _arrays(ranked: Sequence[Ranked]) -> tuple[np.ndarray, np.ndarray]:
    """The candidates' tokens and scores, `[rows, M]` both."""
    return np.array([one.tokens for one in ranked]), np.array([one.scores for one in ranked])
