"""Rejection verification gives the target's distribution exactly: by enumeration, computed and not sampled."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
import pytest
import torch

from saguaro.runtime.speculation import Outcome, rejection
from saguaro.runtime.speculation.ngram import NgramIndex
from saguaro.runtime.speculation.rejection import (
    filtered_distribution,
    saguaro_sampling,
    verify_chain,
)
from tests.runtime.test_distribution import probabilities

V, K, TOP = 5, 3, 2
Path = tuple[int, ...]
Model = Callable[[Path], torch.Tensor]


def model(seed: int, size: int = V) -> Model:
    """A random distribution, float64 [size], for every path; some tokens have no probability."""

    @cache
    def distribution(path: Path) -> torch.Tensor:
        dice = np.random.default_rng([seed, *path])
        weights = dice.dirichlet(np.full(size, 0.7)) * (dice.random(size) < 0.85)
        weights[dice.integers(size)] += 0.05
        return torch.tensor(weights / weights.sum())

    return distribution


@dataclass
class Draft:
    """One way to propose: `more` says after which paths it goes on, `choice` is None where the token is sampled."""

    q: Model
    more: Callable[[Path], bool] = lambda path: len(path) < K
    choice: Callable[[Path], int] | None = None

    def chains(self, path: Path = (), chance: float = 1.0) -> list[tuple[Path, float]]:
        """Every chain with its probability."""
        if not self.more(path):
            return [(path, chance)]
        q = self.q(path).tolist()
        tokens = range(len(q)) if self.choice is None else [self.choice(path)]
        odds = [q[token] if self.choice is None else 1.0 for token in tokens]
        parts = [self.chains((*path, x), chance * odd) for x, odd in zip(tokens, odds, strict=True) if odd > 0]
        return [entry for part in parts for entry in part]

    def drawn_from(self, chain: Path) -> torch.Tensor | None:
        rows = [self.q(chain[:i]) for i in range(len(chain))]
        return None if self.choice else torch.stack(rows) if rows else torch.empty(0, V)


def looked_up(path: Path) -> int:
    return NgramIndex([3, 1, 4, 1, 0, 3, 1, *path]).propose(1)[0]


def drafts(q: Model) -> dict[str, Draft]:
    return {
        "sampled": Draft(q),
        "argmax": Draft(q, choice=lambda path: int(q(path).argmax())),
        "ngram": Draft(q, choice=looked_up),
        # Whether to go on may depend on the tokens before: here the draft stops after an even one.
        "truncated": Draft(q, more=lambda path: len(path) < K and not (path and path[-1] % 2 == 0)),
        "empty": Draft(q, more=lambda path: False),
    }


def only(token: int, weights: torch.Tensor) -> torch.Tensor:
    """Noise under which `token` wins by a hair if `weights` are what is drawn from, tokens of weight 0 by far."""
    noise = torch.where(weights > 0, -weights.log(), 1e3)
    noise[token] += 1e-6
    return noise


def outcomes(p: Model, draft: Draft, chain: Path) -> list[tuple[Outcome, float]]:
    """Every outcome of a chain with its probability; `verify_chain` is shown to give each one with it."""
    target, drawn_from = torch.stack([p(chain[:i]) for i in range(len(chain) + 1)]), draft.drawn_from(chain)
    chances = [
        rejection.acceptance_probability(float(p(chain[:i])[x]), 1.0 if draft.choice else float(draft.q(chain[:i])[x]))
        for i, x in enumerate(chain)
    ]
    result, reached = [], 1.0
    for k in range(len(chain) + 1):
        stop = 1.0 - chances[k] if k < len(chain) else 1.0
        if stop > 1e-12:
            weights = target[k]
            if k < len(chain):
                weights = rejection.residual(target[k], chain[k], None if draft.choice else draft.q(chain[:k]))
            # Just below the probability a uniform accepts, just above it rejects.
            uniforms = [a - 1e-12 for a in chances[:k]] + [a + 1e-12 for a in chances[k : k + 1]]
            uniforms += [1e-12] * (len(chain) - len(uniforms))
            for token in range(V):
                if weights[token] > 0:
                    seen: list[int] = []
                    noise = only(token, weights)
                    got = verify_chain(chain, target, drawn_from, uniforms, lambda k, n=noise, s=seen: s.append(k) or n)
                    assert got == Outcome(k, token)
                    assert seen == [k]
                    result.append((got, reached * stop * float(weights[token])))
        if k < len(chain):
            reached *= chances[k]
        if reached == 0:
            break
    return result


def bias(p: Model, draft: Draft) -> float:
    """How far the distribution of the first K + 1 tokens lies from the target's: the largest difference."""

    def truth(path: Path, start: int = 0) -> float:
        return math.prod(float(p(path[:i])[path[i]]) for i in range(start, len(path)))

    emitted: Counter[Path] = Counter()
    for chain, chance in draft.chains():
        for outcome, odds in outcomes(p, draft, chain):
            emitted[(*chain[: outcome.node], outcome.bonus)] += chance * odds  # type: ignore[assignment]
    full: Counter[Path] = Counter()
    for path, odds in emitted.items():
        for rest in product(range(V), repeat=K + 1 - len(path)):  # the target goes on alone
            full[path + rest] += odds * truth(path + rest, len(path))  # type: ignore[assignment]
    return max(abs(full[path] - truth(path)) for path in product(range(V), repeat=K + 1))


KINDS = tuple(drafts(model(0)))


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("kind", KINDS)
def test_exact_by_enumeration(kind: str, weight: float) -> None:
    for seed in range(3):
        size = V - (seed == 2)  # a draft whose vocabulary is smaller
        raw = model(100 + seed, size)
        draft = drafts(lambda path, raw=raw: saguaro_sampling(raw(path), TOP, weight))[kind]
        if kind != "ngram" or size == V:
            assert bias(model(seed), draft) < 1e-9


@pytest.mark.parametrize("kind", ["sampled", "argmax"])
def test_exact_at_temperature_zero(kind: str) -> None:
    """One-hot distributions on the target's side, and on both."""
    for q in (model(9), greedy(model(9))):
        assert bias(greedy(model(1)), drafts(q)[kind]) < 1e-9


def greedy(of: Model) -> Model:
    return lambda path: filtered_distribution(of(path), 0.0).double()


@pytest.mark.parametrize(
    ("kind", "name", "wrong"),
    [
        ("sampled", "residual", lambda p, token, q: (p - q).clamp(min=0)),  # not renormalised
        ("sampled", "residual", lambda p, token, q: p),
        ("argmax", "residual", lambda p, token, q: p),  # the rejected token may come back
        ("argmax", "acceptance_probability", lambda p, q: 1.0),  # accepted outright, as in the paper's code
        ("ngram", "acceptance_probability", lambda p, q: 1.0),
        ("sampled", "acceptance_probability", lambda p, q: min(1.0, p)),
    ],
)
def test_a_wrong_rule_is_found(monkeypatch: pytest.MonkeyPatch, kind: str, name: str, wrong: Callable) -> None:
    monkeypatch.setattr(rejection, name, wrong)
    assert bias(model(0), drafts(model(100))[kind]) > 1e-3


def test_a_token_dropped_for_its_own_value_is_found() -> None:
    """Dropping what the draft thinks unlikely would bias the output: q is no longer what was drawn from."""

    class Dropping(Draft):
        def chains(self, path: Path = (), chance: float = 1.0) -> list[tuple[Path, float]]:
            kept: Counter[Path] = Counter()
            for chain, odds in super().chains(path, chance):
                likely = [float(self.q(chain[:i])[x]) > 0.2 for i, x in enumerate(chain)] + [False]
                kept[chain[: likely.index(False)]] += odds  # type: ignore[assignment]
            return list(kept.items())  # type: ignore[arg-type]

    assert bias(model(0), Dropping(model(100))) > 1e-3


def test_rounding_never_gives_nan() -> None:
    """A rejection that only rounding can make, where p = q: the bonus token is the target's."""
    p = torch.tensor([0.25, 0.75])
    assert verify_chain([1], torch.stack([p, p]), p.unsqueeze(0), [1.0], lambda k: torch.zeros(2)) == Outcome(0, 1)
    sure = torch.tensor([[0.0, 1.0]] * 2)
    assert verify_chain([1], sure, None, [1.0], lambda k: torch.zeros(2)) == Outcome(0, 1)
    none = torch.tensor([[0.0, 1.0]])
    assert verify_chain([0], sure, none, [1e-9], lambda k: torch.zeros(2)) == Outcome(0, 1)  # p = q = 0: rejected


@pytest.mark.parametrize(
    ("chain", "targets", "drafts", "uniforms"),
    [([1, 2], 2, 2, 2), ([1, 2], 3, 1, 2), ([1, 2], 3, None, 1), ([], 2, 0, 0)],
)
def test_numbers_that_do_not_fit(chain: list[int], targets: int, drafts: int | None, uniforms: int) -> None:
    q = None if drafts is None else torch.full((drafts, V), 1 / V)
    with pytest.raises(ValueError, match=f"a chain of {len(chain)} tokens needs"):
        verify_chain(chain, torch.full((targets, V), 1 / V), q, [0.5] * uniforms, lambda k: torch.zeros(V))


def test_saguaro_sampling() -> None:
    q = torch.tensor([[0.5, 0.3, 0.2, 0.0], [0.1, 0.1, 0.2, 0.6]], dtype=torch.float64)
    expected = torch.tensor([[0.15, 0.09, 0.2, 0.0], [0.1, 0.1, 0.06, 0.18]], dtype=torch.float64)
    torch.testing.assert_close(saguaro_sampling(q, 2, 0.3), expected / expected.sum(-1, keepdim=True))
    torch.testing.assert_close(saguaro_sampling(q, 2, 1.0), q)
    torch.testing.assert_close(saguaro_sampling(q, 0, 0.0), q)
    assert saguaro_sampling(q, 2, 0.0)[0].tolist() == [0, 0, 1, 0]
    torch.testing.assert_close(saguaro_sampling(q, 9, 0.0), q)  # nothing would be left
    torch.testing.assert_close(saguaro_sampling(q, 9, 0.5), q)
    for weight in (-0.1, 1.1, math.nan):
        with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
            saguaro_sampling(q, 2, weight)


@pytest.mark.parametrize("filters", [{}, {"top_k": 4}, {"top_p": 0.7}, {"min_p": 0.1}, {"top_k": 9, "top_p": 0.9}])
def test_filtered_distribution(filters: dict[str, float]) -> None:
    logits = torch.randn(3, 4, 30, generator=torch.Generator().manual_seed(0)) * 2
    got = filtered_distribution(logits, 0.7, **filters)  # type: ignore[arg-type]
    rows = [probabilities(row, 0.7, **filters) for row in logits.reshape(-1, 30)]  # type: ignore[arg-type]
    torch.testing.assert_close(got.double(), torch.stack(rows).reshape(3, 4, 30), rtol=1e-5, atol=1e-7)
    assert (filtered_distribution(logits.bfloat16(), 0.7).sum(-1) - 1).abs().max() < 1e-5
    assert torch.equal(filtered_distribution(logits, 0.0).argmax(-1), logits.argmax(-1))
    assert torch.equal(filtered_distribution(logits, 0.0).sum(-1), torch.ones(3, 4))
