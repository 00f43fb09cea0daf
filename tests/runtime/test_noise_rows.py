"""Both models get the noise of the position, however they go forth and back."""

from __future__ import annotations

import random

import torch

from saguaro import SamplingParams
from saguaro.plugins import gumbel
from saguaro.runtime.sequence import Sequence

SIZE, CPU = 40, torch.device("cpu")


def sequence(temperature: float, seed: int) -> Sequence:
    return Sequence([1], SamplingParams(temperature=temperature), seed, frozenset())


def test_none_when_greedy() -> None:
    assert sequence(0, 5).noise(SIZE, CPU) is None


def test_target_and_draft_share_it() -> None:
    one = sequence(0.7, 5)
    assert one.noise(SIZE, CPU) is one.noise(SIZE, CPU)


def test_the_noise_of_the_position() -> None:
    """Positions as rounds ask for them, and wild ones."""
    ours, dice, position = sequence(0.7, 2**63 + 11).noise(SIZE, CPU), random.Random(4), 30
    assert ours is not None
    for _ in range(200):
        position = max(0, position + dice.choice([-40, -6, -3, -1, 0, 1, 1, 2, 5, 60]))
        last = position + dice.randrange(20)
        found = ours.reach(position, last)
        assert found.scale == 1 / 0.7
        rows = found.rows[position - found.first : last + 1 - found.first]
        assert torch.equal(rows, gumbel(2**63 + 11, torch.arange(position, last + 1), SIZE))
