"""Which outcomes to prepare: the draft's own favourites at every place where the target may stop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from saguaro.runtime.speculation.tree import Outcome, Speculation


class Ranked(NamedTuple):
    """The draft's candidates for one position, best first, with their scores under the request's noise."""

    tokens: Sequence[int] | np.ndarray  # [M]
    scores: Sequence[float] | np.ndarray


class Lesson(NamedTuple):
    """What the target made of a speculation."""

    ranked: Sequence[Ranked]  # after the bonus token, node 1, ...: as far as the draft computed them
    speculation: Speculation
    outcome: Outcome
    after_hit: bool  # whether the speculation was prepared, and is no fallback


class Choice(NamedTuple):
    """The outcomes to prepare, and for how many of them, the first ones, each of the depths 0..K is computed: depth d
    drafts a (d + 1)-th token, depth K computes the K-th, so that the next round need not."""

    outcomes: list[Outcome]
    widths: list[int]


def choose_outcomes(
    ranked: Sequence[Sequence[int]], speculated: Sequence[int], fan_out: Sequence[int]
) -> list[Outcome]:
    """The F_k best-ranked bonus tokens after each number k of accepted tokens of a chain.

    Args:
        ranked: for k = 0..K the draft's candidates for the token after k accepted ones, best first. At least
            `fan_out[k] + 1` of them.
        speculated: x_1..x_K. At k < K the token x_{k+1} is no candidate: had it been right, it would have
            been accepted. At k = K every token is.
        fan_out: F_0..F_K.
    """
    outcomes = []
    for k, candidates in enumerate(ranked):
        excluded = speculated[k] if k < len(speculated) else -1
        others = [token for token in candidates if token != excluded]
        outcomes += [Outcome(k, token) for token in others[: fan_out[k]]]
    return outcomes
