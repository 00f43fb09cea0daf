"""Rejection verification with its real coins, by chi-square: the target's distribution, and independent coins."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import product

import numpy as np
import torch
from scipy.stats import chi2_contingency, chisquare, kstest

from saguaro.plugins import gumbel
from saguaro.runtime.speculation import rejection
from saguaro.runtime.speculation.rejection import (
    acceptance_uniforms,
    draft_noise,
    draw,
    residual_noise,
    verify_chain,
)
from tests.runtime.test_rejection import Model, Path, V, model

Drafted = Callable[[int, int, int], torch.Tensor]  # noise by seed, round and position


def generate(p: Model, q: Model, seed: int, drafted: Drafted) -> Path:
    """The first three tokens of a request, round after round, with chains of two.

    As in SSD, what a round speculates depends on the round before: on its coins, by which the draft chooses what it
    prepares, and on its chain.
    """
    path: Path = ()
    chain: list[int] = []
    peeked, turn = 0.1, 0
    while len(path) < 3:
        sampled, size = peeked < 0.7, 0 if peeked > 0.9 or chain[1:] > [1] else 2
        chain, rows = [], []
        for i in range(size):
            rows.append(q((*path, *chain)))
            token = draw(rows[-1], drafted(seed, turn, len(path) + i)) if sampled else rows[-1].argmax()
            chain.append(int(token))
        target = torch.stack([p((*path, *chain[:i])) for i in range(size + 1)])
        noise = residual_noise(seed, turn, range(len(path), len(path) + size + 1), V)
        outcome = verify_chain(
            chain, target, torch.stack(rows) if rows and sampled else None,
            acceptance_uniforms(seed, turn, len(path), size), noise.__getitem__,
        )  # fmt: skip
        path = (*path, *chain[: outcome.node], outcome.bonus)
        peeked, turn = acceptance_uniforms(seed, turn, len(path), 1)[0], turn + 1
    return path[:3]


def test_real_coins_over_many_seeds() -> None:
    p, q, seeds = model(3), model(103), 3_000
    noise = partial(draft_noise, vocab_size=V)
    counts = Counter(generate(p, q, seed, noise) for seed in range(seeds))
    paths = list(product(range(V), repeat=3))
    odds = np.array([math.prod(float(p(path[:i])[path[i]]) for i in range(3)) for path in paths])
    seen = np.array([counts[path] for path in paths])
    assert not seen[odds == 0].any()
    rare = odds * seeds < 8
    seen, odds = (np.append(values[~rare], values[rare].sum()) for values in (seen, odds))
    assert chisquare(seen, odds * seeds).pvalue > 1e-3


POSITIONS, BINS = range(40_000), 8
Q = torch.tensor([0.1, 0.3, 0.1, 0.3, 0.2], dtype=torch.float64)


def bins(values: Sequence[float]) -> np.ndarray:
    return (np.array(values) * BINS).astype(int)


def winners(noise: torch.Tensor) -> np.ndarray:
    return noise.argmax(-1).numpy()


def test_coins_are_distributed_as_they_should() -> None:
    u = acceptance_uniforms(7, 3, 0, len(POSITIONS))
    assert kstest(u, "uniform").pvalue > 1e-3
    assert 0 < min(u) < max(u) < 1
    weights = torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05])
    for noise in (residual_noise, draft_noise):
        seen = np.bincount(draw(weights, noise(7, 3, POSITIONS, V)).numpy(), minlength=V)
        assert chisquare(seen, weights.double().numpy() * len(POSITIONS)).pvalue > 1e-3


def emitted(noise: torch.Tensor, present: torch.Tensor | None = None) -> float:
    """p-value of one token's verification at many positions, the draft sampling with `noise` where `present`."""
    p = torch.tensor([0.4, 0.05, 0.25, 0.05, 0.25], dtype=torch.float64)
    size, own = len(POSITIONS), residual_noise(7, 1, POSITIONS, V)
    accepts = torch.tensor([rejection.acceptance_probability(float(p[x]), float(Q[x])) for x in range(V)])
    rests = torch.stack([rejection.residual(p, x, Q) for x in range(V)])
    proposed, u = draw(Q, noise), torch.tensor(acceptance_uniforms(7, 1, 0, size), dtype=torch.float64)
    tokens = torch.where(u < accepts[proposed], proposed, draw(rests[proposed], own))
    if present is not None:
        tokens = torch.where(present, tokens, draw(p, own))
    return float(chisquare(np.bincount(tokens, minlength=V), p.numpy() * size).pvalue)


def test_what_draft_noise_must_not_share() -> None:
    """Neither the residual draw's noise, nor that of the chain whose tokens decide whether there is a proposal."""
    before = draft_noise(7, 0, POSITIONS, V)
    present = draw(Q, before) <= 1
    assert emitted(draft_noise(7, 1, POSITIONS, V)) > 1e-3
    assert emitted(draft_noise(7, 1, POSITIONS, V), present) > 1e-3
    assert emitted(residual_noise(7, 1, POSITIONS, V)) < 1e-9
    assert emitted(before, present) < 1e-9


def test_coins_are_independent() -> None:
    """Of rounds, streams and positions: every pair's contingency table."""
    size = len(POSITIONS)
    coins = {
        "coupled": winners(gumbel(7, POSITIONS, BINS)),
        "seed 8": bins(acceptance_uniforms(8, 0, 0, size)),
        "next position": bins(acceptance_uniforms(7, 0, 1, size)),
    }
    for turn in (0, 1, 2, 1000):
        coins[f"u {turn}"] = bins(acceptance_uniforms(7, turn, 0, size))
        coins[f"residual {turn}"] = winners(residual_noise(7, turn, POSITIONS, BINS))
        coins[f"draft {turn}"] = winners(draft_noise(7, turn, POSITIONS, BINS))
    names = list(coins)
    pairs = [(a, b) for i, a in enumerate(names) for b in names[:i]]
    for a, b in pairs:
        table = np.zeros((BINS, BINS))
        np.add.at(table, (coins[a], coins[b]), 1)
        assert chi2_contingency(table).pvalue > 1e-3 / len(pairs), (a, b)


def test_coins_of_one_key_are_one() -> None:
    """The draft and the target see the same, one position at a time or many."""
    u = acceptance_uniforms(2**64 - 1, 5, 10, 4)
    assert u[2:] == acceptance_uniforms(-1, 5, 12, 2)
    assert acceptance_uniforms(1, 0, 0, 0) == []
    for noise in (residual_noise, draft_noise):
        rows = noise(3, 5, torch.arange(10, 14), 50)
        assert torch.equal(rows[2], noise(3, 5, 12, 50))
        assert torch.equal(rows[:, :20], noise(3, 5, torch.arange(10, 14), 20))
