"""How well the draft's scores tell the target's choice: one number, measured while generating.

Taken: the target's score of a token is the draft's plus noise of its own, Gumbel-distributed with some scale b and
independent for each token. Then the candidate of score s_j is the target's own token with chance `softmax(s / b)_j`
(the multinomial logit: McFadden, "Conditional logit analysis of qualitative choice behavior", 1974). A draft that is
nearly the target has a small b; one that knows nothing, a large one.

Kept for each scale of a grid is the log-likelihood of the target's tokens so far, of which older ones count for less.
The likeliest scale is taken.
"""

from __future__ import annotations

from typing import Any

import numpy as np

SCALES = np.geomspace(0.1, 8.0, 20)  # in units of the scores
PRIOR = -0.5 * np.log(SCALES) ** 2  # before anything was seen: what the draft's own distribution says, b = 1
MEMORY = 0.999  # what a token still counts when the next has come
FAR = 30.0  # a score so far behind the best is as good as any further one


class ScoreNoise:
    """In two situations, 0 and 1, in which the draft may be of different worth."""

    def __init__(self) -> None:
        self.likelihood = np.array([PRIOR, PRIOR])

    def scale(self, situation: int) -> float:
        """b, in units of the scores."""
        return float(SCALES[np.argmax(self.likelihood[situation])])

    def chances(self, scores: np.ndarray, situation: int) -> np.ndarray:
        """Each candidate's chance to be the target's own token. `scores` `[..., M]`, best first."""
        weights = np.exp(_gaps(scores) / -self.scale(situation))
        return weights / weights.sum(-1, keepdims=True)

    def learn(self, scores: np.ndarray, tokens: np.ndarray, truth: np.ndarray, situation: int) -> None:
        """Take in the target's own tokens, `truth` `[n]`, where the candidates were `tokens` with `scores`, `[n, M]`.

        A token that is none of the candidates counts as the last of them.
        """
        same = tokens == truth[:, None]
        places = np.where(same.any(1), same.argmax(1), tokens.shape[1] - 1)
        scaled = _gaps(scores) / -SCALES[:, None, None]  # [scales, n, M]
        found = np.take_along_axis(scaled, places[None, :, None], axis=2)[:, :, 0] - np.log(np.exp(scaled).sum(-1))
        self.likelihood[situation] = self.likelihood[situation] * MEMORY ** len(truth) + found.sum(1)

    def statistics(self) -> dict[str, Any]:
        return {"likelihood": self.likelihood.tolist()}

    def restore(self, statistics: dict[str, Any]) -> None:
        """Raises ValueError for anything that is not from `statistics`."""
        likelihood = np.array(statistics.get("likelihood"), dtype=float)
        if likelihood.shape != self.likelihood.shape or not np.isfinite(likelihood).all():
            raise ValueError(f"likelihood is no table of {len(SCALES)} numbers for each situation")
        self.likelihood = likelihood


def _gaps(scores: np.ndarray) -> np.ndarray:
    """By how much each score lies behind the best. What lies behind an infinite one is far."""
    finite = np.clip(scores.astype(float), -1e30, 1e30)
    return np.minimum(finite[..., :1] - finite, FAR)
