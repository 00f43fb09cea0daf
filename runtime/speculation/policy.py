"""Outcome policies: which outcomes the draft prepares in a round, and what is learned when one has come true."""

from __future__ import annotations

from collections.abc import Sequence
from math import inf, log
from statistics import fmean
from typing import Any, Protocol

from saguaro.runtime.speculation.adaptive import AdaptivePolicy
from saguaro.runtime.speculation.fan_out import geometric_fan_out, uniform_fan_out
from saguaro.runtime.speculation.outcomes import Choice, Lesson, Ranked, choose_outcomes

FAN_OUTS = (2, 4, 8)  # where the miss curve is measured


class OutcomePolicy(Protocol):
    """Output tokens never depend on it: it decides what is prepared, not what is accepted."""

    def candidates(self) -> int:
        """How many ranked candidates for each position `choose` wants to see."""
        ...

    def choose(self, ranked: Sequence[Ranked], speculated: Sequence[int], after_hit: bool) -> Choice:
        """At most the budget's number of outcomes of a chain; `ranked[k]` are the candidates after k tokens.

        `after_hit`: whether the chain was prepared, and is no fallback.
        """
        ...

    def learn(self, lessons: Sequence[Lesson]) -> None:
        """Take in what the target made of some speculations. Several take hardly longer than one."""
        ...


class KeptPolicy(OutcomePolicy, Protocol):
    """What it learned can be saved."""

    def statistics(self) -> dict[str, Any]:
        """What was learned, as JSON holds it."""
        ...

    def restore(self, statistics: dict[str, Any]) -> None:
        """Go on from what was learned before. Raises ValueError where that is no such thing."""
        ...


class FixedFanOut:
    """A fan-out for each number of accepted tokens: uniform, geometric, or a list F_0..F_K."""

    def __init__(self, kind: str | list[int], budget: int, lookahead: int):
        self.kind, self.budget, self.lookahead = kind, budget, lookahead
        self.tested, self.accepted = 10.0, 7.0  # a, as if seven of ten tokens had been accepted
        self.bonuses, self.missed = 10.0, [10.0 / fan_out for fan_out in FAN_OUTS]  # as if r had been 1

    @property
    def exponent(self) -> float:
        """r of the miss curve F^-r, the mean of what each measured point of it says."""
        return max(
            0.1, fmean(log(self.bonuses / missed) / log(f) for f, missed in zip(FAN_OUTS, self.missed, strict=True))
        )

    def fan_out(self, lookahead: int) -> list[int]:
        if isinstance(self.kind, list):
            return self.kind[: lookahead + 1]
        if self.kind == "uniform":
            return uniform_fan_out(lookahead, self.budget)
        return geometric_fan_out(self.accepted / self.tested, self.exponent, lookahead, self.budget)

    def candidates(self) -> int:
        # A geometric fan-out changes as acceptance does; the greatest that it can give to one position is the budget.
        return (self.budget if self.kind == "geometric" else max(self.fan_out(self.lookahead))) + 1

    def choose(self, ranked: Sequence[Ranked], speculated: Sequence[int], after_hit: bool) -> Choice:
        tokens = [[int(token) for token in candidates.tokens] for candidates in ranked]
        outcomes = choose_outcomes(tokens, speculated, self.fan_out(len(speculated)))
        return Choice(outcomes, [len(outcomes)] * self.lookahead + [0])

    def learn(self, lessons: Sequence[Lesson]) -> None:
        for ranked, speculation, (node, bonus), _ in lessons:
            accepted, tested = speculation.tried(node)
            self.accepted, self.tested = self.accepted + accepted, self.tested + tested
            excluded = [*speculation.tokens, -1][node]
            others = [token for token in ranked[node].tokens if token != excluded]
            rank = others.index(bonus) if bonus in others else len(others)
            self.bonuses += 1
            self.missed = [missed + (rank >= f) for f, missed in zip(FAN_OUTS, self.missed, strict=True)]

    def statistics(self) -> dict[str, Any]:
        return {"tested": self.tested, "accepted": self.accepted, "bonuses": self.bonuses, "missed": self.missed}

    def restore(self, statistics: dict[str, Any]) -> None:
        tested, accepted, bonuses = (float(statistics.get(name, "none")) for name in ("tested", "accepted", "bonuses"))
        missed = [float(count) for count in statistics.get("missed", [])]
        if len(missed) != len(FAN_OUTS) or not all(0 < count <= bonuses < inf for count in missed):
            raise ValueError("bonuses and missed are no counts")
        if not 0 <= accepted <= tested or not 0 < tested < inf:
            raise ValueError("tested and accepted are no counts")
        self.tested, self.accepted, self.bonuses, self.missed = tested, accepted, bonuses, missed


def outcome_policy(kind: str | list[int], budget: int, lookahead: int) -> KeptPolicy:
    """The policy that a deployment's `speculation.fan_out` names."""
    return AdaptivePolicy(budget, lookahead) if kind == "adaptive" else FixedFanOut(kind, budget, lookahead)
