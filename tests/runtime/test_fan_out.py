"""How many outcomes are prepared for each number of accepted tokens, and which."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest

from saguaro.runtime.speculation import (
    Lesson,
    Outcome,
    Ranked,
    Speculation,
    choose_outcomes,
    geometric_fan_out,
    outcome_policy,
    uniform_fan_out,
)


def reached(a: float, lookahead: int) -> list[float]:
    """P(k): the probability that exactly k tokens are accepted."""
    return [a**k * (1 - a) for k in range(lookahead)] + [a**lookahead]


def shares(total: int, parts: int) -> Iterator[tuple[int, ...]]:
    """All ways to share `total` among `parts`, at least one each."""
    if parts == 1:
        yield (total,)
        return
    for first in range(1, total - parts + 2):
        for rest in shares(total - first, parts - 1):
            yield (first, *rest)


def test_geometric_against_brute_force() -> None:
    """Within one of the best of all ways to share the budget, under P(miss | F) = F^-r."""
    dice = random.Random(0)
    moved = 0
    for _ in range(1000):
        a, r, lookahead = dice.uniform(0.05, 0.95), dice.uniform(0.3, 2.5), dice.randint(0, 4)
        budget = dice.randint(lookahead + 1, 18)
        chances = reached(a, lookahead)
        misses = [0.0] + [f**-r for f in range(1, budget + 1)]
        best = min(
            shares(budget, lookahead + 1),
            key=lambda fan_out: sum(p * misses[f] for p, f in zip(chances, fan_out, strict=True)),
        )
        ours = geometric_fan_out(a, r, lookahead, budget)
        assert sum(ours) == budget
        assert all(abs(mine - theirs) <= 1 for mine, theirs in zip(ours, best, strict=True)), (
            a,
            r,
            ours,
            best,
        )
        moved += ours != uniform_fan_out(lookahead, budget)
    assert moved > 500


@pytest.mark.parametrize("a", [0.0, 0.3, 0.7, 0.95, 1.0])
def test_geometric_with_less_than_one_each(a: float) -> None:
    """The likeliest numbers of accepted tokens get one each."""
    for lookahead in (1, 5):
        for budget in range(1, lookahead + 1):
            ours = geometric_fan_out(a, 1.0, lookahead, budget)
            chances = reached(min(max(a, 1e-6), 1 - 1e-6), lookahead)
            likeliest = sorted(range(lookahead + 1), key=lambda k: -chances[k])[:budget]
            assert ours == [int(k in likeliest) for k in range(lookahead + 1)]


def test_geometric_by_hand() -> None:
    """a = 1/4, r = 1: F_0 : F_1 : F_2 = 1 : 1/2 : 1/4 * sqrt(4/3)."""
    assert geometric_fan_out(0.25, 1.0, 2, 100) == [56, 28, 16]


def test_uniform() -> None:
    assert uniform_fan_out(5, 24) == [4] * 6
    assert uniform_fan_out(2, 8) == [3, 3, 2]
    assert uniform_fan_out(3, 2) == [1, 1, 0, 0]


def test_chosen_outcomes() -> None:
    """After k accepted tokens, x_{k+1} is no candidate; after all of them every token is."""
    ranked = [[4, 9, 1], [9, 5, 7], [6, 4, 5]]
    assert choose_outcomes(ranked, [4, 5], [2, 1, 3]) == [
        Outcome(0, 9), Outcome(0, 1), Outcome(1, 9), Outcome(2, 6), Outcome(2, 4), Outcome(2, 5),
    ]  # fmt: skip
    assert choose_outcomes(ranked, [4, 5], [0, 2, 0]) == [Outcome(1, 9), Outcome(1, 7)]
    assert choose_outcomes([[3, 8]], [], [1]) == [Outcome(0, 3)]


@pytest.mark.parametrize("kind", ["adaptive", "geometric", "uniform", [3, 0, 2, 1]])
def test_every_policy_keeps_to_the_rules(kind: str | list[int]) -> None:
    """Whatever it learned: at most B outcomes, all different, none that cannot happen."""
    dice, budget, lookahead = random.Random(1), 6, 3
    policy = outcome_policy(kind, budget, lookahead)
    for _ in range(200):
        depth = policy.candidates()
        ranked = [
            Ranked(
                dice.sample(range(30), depth),
                sorted((dice.uniform(-5, 5) for _ in range(depth)), reverse=True),
            )
            for _ in range(lookahead + 1)
        ]
        chain = [row.tokens[0] if dice.random() < 0.8 else dice.randrange(30) for row in ranked[:lookahead]]
        outcomes, widths = policy.choose(ranked, chain, after_hit=dice.random() < 0.5)
        assert len(widths) == lookahead + 1
        assert widths[0] == len(outcomes)
        assert widths == sorted(widths, reverse=True)
        assert 1 <= len(outcomes) <= budget
        assert len(set(outcomes)) == len(outcomes)
        for node, bonus in outcomes:
            assert bonus in ranked[node].tokens
            assert node == lookahead or bonus != chain[node]
        outcome = Outcome(dice.randint(0, lookahead), dice.randrange(30))
        policy.learn([Lesson(ranked, Speculation.chain(chain), outcome, dice.random() < 0.5)])


@pytest.mark.parametrize("kind", ["adaptive", "uniform"])
def test_lessons_are_worth_the_same_together(kind: str) -> None:
    """But for how much the older of them are forgotten meanwhile. Chains and trees, after hits and fallbacks."""
    dice, alone, together = random.Random(3), outcome_policy(kind, 6, 3), outcome_policy(kind, 6, 3)
    lessons = []
    for number in range(8):
        scores = sorted((dice.uniform(-5, 5) for _ in range(7)), reverse=True)
        ranked = [Ranked(dice.sample(range(30), 7), scores) for _ in range(4)]
        parents = (0, 1, 2) if number % 2 else (0, 0, 1)
        speculation = Speculation(tuple(int(ranked[parent].tokens[0]) for parent in parents), parents)
        outcome = Outcome(dice.randint(0, 3), dice.randrange(30))
        lessons.append(Lesson(ranked, speculation, outcome, number % 3 == 0))
        alone.learn(lessons[-1:])
    together.learn(lessons)
    expected, found = alone.statistics(), together.statistics()
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert np.array(found[name]) == pytest.approx(np.array(value), rel=0.02, abs=0.02), name
        assert np.any(np.array(value) != np.array(outcome_policy(kind, 6, 3).statistics()[name]))
