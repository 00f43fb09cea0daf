"""What the draft's scores are worth: measured, forgotten, kept apart, and never out of hand."""

from __future__ import annotations

import numpy as np
import pytest

from saguaro.runtime.speculation.score_noise import SCALES, ScoreNoise

SIZE = 40


def observe(noise: ScoreNoise, scale: float, rows: int, situation: int = 0, seed: int = 0) -> None:
    """Texts of a target whose scores are the draft's plus Gumbel noise of this scale."""
    rng = np.random.default_rng(seed)
    for _ in range(rows):
        scores = -np.sort(-rng.normal(0, 3, SIZE))
        truth = int(np.argmax(scores + rng.gumbel(0, scale, SIZE)))
        noise.learn(scores[None, :10], np.arange(10)[None], np.array([truth]), situation)


@pytest.mark.parametrize("scale", [0.15, 0.4, 1.0])
def test_the_scale_is_found(scale: float) -> None:
    noise = ScoreNoise()
    observe(noise, scale, 600)
    assert scale / 1.35 < noise.scale(0) < scale * 1.35


def test_chances_come_true_as_often_as_they_say() -> None:
    noise, rng = ScoreNoise(), np.random.default_rng(1)
    observe(noise, 0.7, 600)
    expected, right = np.zeros(3), np.zeros(3)
    for _ in range(4000):
        scores = -np.sort(-rng.normal(0, 3, 10))
        truth = np.argmax(scores + rng.gumbel(0, 0.7, 10))
        expected += noise.chances(scores, 0)[:3]
        right += np.arange(3) == truth
    assert np.abs(right - expected).max() < 4 * np.sqrt(4000 * 0.25) + 0.05 * 4000


def test_a_change_is_noticed() -> None:
    noise = ScoreNoise()
    observe(noise, 0.2, 4000)
    assert noise.scale(0) < 0.3
    observe(noise, 2.0, 4000, seed=1)
    assert noise.scale(0) > 1.5


def test_situations_are_apart() -> None:
    noise = ScoreNoise()
    observe(noise, 0.2, 300, situation=0)
    assert noise.scale(1) == pytest.approx(1, rel=0.15)  # nothing of its own was seen
    observe(noise, 2.0, 300, situation=1, seed=1)
    assert noise.scale(0) < 0.3
    assert noise.scale(1) > 1.5


def test_a_draft_that_knows_nothing() -> None:
    noise = ScoreNoise()
    for _ in range(200):
        noise.learn(np.array([[9.0, 5.0, 0.0]]), np.array([[1, 2, 3]]), np.array([77]), 0)
    assert noise.scale(0) == SCALES[-1]


@pytest.mark.parametrize(
    "scores",
    [[0.0, 0.0, 0.0], [1e30, 0.0, -1e30], [0.0, -np.inf, -np.inf], [-np.inf, -np.inf, -np.inf], [np.inf, 1.0, 0.0]],
)
def test_any_scores(scores: list[float]) -> None:
    noise, rows = ScoreNoise(), np.array([scores], dtype=np.float32)
    for _ in range(50):
        noise.learn(rows, np.array([[4, 5, 6]]), np.array([6]), 0)
    chances = noise.chances(rows, 0)
    assert np.isfinite(noise.likelihood).all()
    assert np.isfinite(chances).all()
    assert chances.sum() == pytest.approx(1)


def test_a_single_candidate() -> None:
    noise = ScoreNoise()
    noise.learn(np.array([[1.0]]), np.array([[4]]), np.array([5]), 1)
    assert noise.chances(np.array([[1.0], [2.0]]), 1).tolist() == [[1.0], [1.0]]
