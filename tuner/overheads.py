"""What rounds take besides forward passes: it is known only by running some."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Overheads:
    """What rounds take besides the forward passes that the curves tell of, by the round's kind. Times are in units of a
    verification of one token for each sequence."""

    start: dict[str, dict[float, float]] = field(default_factory=dict)  # of a preparation, by lookahead
    factors: dict[str, dict[float, float]] = field(default_factory=dict)  # by what a round takes by the curves
    variants: dict[str, float] = field(default_factory=dict)  # `auto`, `rejection`: over the speed of what they vary

    def start_of(self, kind: str, lookahead: int) -> float:
        return _between(self.start.get(kind, {}), lookahead, 0.0)

    def factor(self, kind: str, round_: float) -> float:
        """What a round of this kind takes, over what the curves say. Until it is measured, one that looks continuations
        up is taken for one that drafts them."""
        points = self.factors.get(kind) or self.factors.get(kind.removesuffix(" ngram"), {})
        return _between(points, round_, 1.0)


def _between(points: Mapping[float, float], at: float, unknown: float) -> float:
    """On the line between the two next to it; outside of all, as at the nearest."""
    known = sorted(points)
    return float(np.interp(at, known, [points[x] for x in known])) if known else unknown
