"""The draft adds the noise that the target will add, at every position, however it goes forth and back."""

from __future__ import annotations

import random

import torch

from saguaro import SamplingParams
from saguaro.plugins import gumbel
from saguaro.runtime.draft_scores import DraftScores
from saguaro.runtime.sequence import Sequence

SIZE = 40


def scores(temperature: float, seed: int = 5) -> DraftScores:
    sequence = Sequence([1], SamplingParams(temperature=temperature), seed, frozenset())
    return DraftScores(sequence, SIZE, torch.device("cpu"))


def test_greedy_scores_are_the_logits() -> None:
    logits = torch.randn(3, SIZE)
    assert torch.equal(scores(0).perturb(logits, 9, torch.tensor([0, 1, 2]), 2), logits)
    assert torch.equal(scores(0).perturb(logits[0], 9), logits[0])


def test_the_noise_of_the_position() -> None:
    """Positions as rounds ask for them, and wild ones; single rows and branches with offsets."""
    ours, dice, position = scores(0.7, seed=2**63 + 11), random.Random(4), 30
    for _ in range(200):
        position = max(0, position + dice.choice([-40, -6, -3, -1, 0, 1, 1, 2, 5, 60]))
        logits = torch.randn(SIZE)
        noise = gumbel(2**63 + 11, torch.tensor([position]), SIZE)[0]
        assert torch.allclose(ours.perturb(logits, position), logits / 0.7 + noise, atol=1e-5)
        offsets = torch.tensor([dice.randrange(7) for _ in range(5)])
        branches = torch.randn(5, SIZE)
        noise = gumbel(2**63 + 11, position + offsets, SIZE)
        assert torch.allclose(ours.perturb(branches, position, offsets, 6), branches / 0.7 + noise, atol=1e-5)
