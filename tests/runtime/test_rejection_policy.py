"""Which outcomes are prepared under rejection verification: the coins say where the target stops."""

from __future__ import annotations

import numpy as np
import pytest

from saguaro.runtime.speculation import Lesson, Outcome, Ranked, Speculation
from saguaro.runtime.speculation.rejection_policy import END, STOP, RejectionPolicy, rejection_policies

CHAIN = [7, 8]


def ranked(*uniforms: float) -> list[Ranked]:
    """Proposed tokens 7 and 8 with their uniforms, others 20 k + 1, 20 k + 2, ... after k accepted ones."""
    scores = np.array([3.0, 2.0, 0.0, -1.0])
    stops = [
        Ranked([token, *range(20 * k + 1, 20 * k + 5)], np.append(u, scores))
        for k, (token, u) in enumerate(zip(CHAIN, uniforms, strict=True))
    ]
    return [*stops, Ranked(range(41, 46), np.append(4.0, scores))]


@pytest.mark.parametrize(
    ("uniforms", "likeliest"), [((0.95, 0.5), 0), ((0.02, 0.95), 1), ((0.02, 0.02), 2)]
)
def test_small_uniforms_move_the_budget_along_the_chain(uniforms: tuple[float, float], likeliest: int) -> None:
    policy = RejectionPolicy(6, 2)
    for u, accepted in ((0.02, True), (0.95, False)):  # what was seen: the uniform alone decides
        for _ in range(50):
            outcome = Outcome(2, 41) if accepted else Outcome(0, 1)
            policy.learn([Lesson(ranked(u, 0.5), Speculation.chain(CHAIN), outcome, True)])
    choice = policy.choose(ranked(*uniforms), CHAIN, True)
    assert choice.outcomes[0].node == likeliest
    assert choice.widths == [6, 6, 0]
    assert not {Outcome(0, 7), Outcome(1, 8)} & set(choice.outcomes)
    assert len(set(choice.outcomes)) == 6


def test_no_chain() -> None:
    choice = RejectionPolicy(3, 2).choose([ranked(0.5, 0.5)[-1]], [], True)
    assert choice.outcomes == [Outcome(0, 41), Outcome(0, 42), Outcome(0, 43)]


def test_the_last_place_is_learned_apart() -> None:
    policy = RejectionPolicy(6, 2)
    before = policy.score_noise.likelihood.copy()
    policy.learn([Lesson(ranked(0.5, 0.5), Speculation.chain(CHAIN), Outcome(2, 41), True)])
    assert (policy.score_noise.likelihood[STOP] == before[STOP]).all()
    assert (policy.score_noise.likelihood[END] != before[END]).any()
    assert policy.tested.sum() == pytest.approx(4 * 10 + 2)


@pytest.mark.parametrize("kind", ["adaptive", "geometric", "uniform", [2, 2, 2]])
def test_every_fan_out(kind: str | list[int]) -> None:
    policy = rejection_policies(kind, 6, 2)(False)
    assert policy.candidates() <= 7
    choice = policy.choose(ranked(0.5, 0.5), CHAIN, True)
    assert 1 <= len(choice.outcomes) <= 6
    assert not {Outcome(0, 7), Outcome(1, 8)} & set(choice.outcomes)
