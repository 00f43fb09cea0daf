"""Outcome policies: which outcomes the draft prepares in a round, and what is learned when one has come true."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from saguaro.runtime.speculation.adaptive import AdaptivePolicy
from saguaro.runtime.speculation.fan_out import geometric_fan_out, uniform_fan_out
from saguaro.runtime.speculation.outcomes import Choice, Ranked, choose_outcomes
from saguaro.runtime.speculation.tree import Outcome


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

    def learn(
        self, ranked: Sequence[Ranked], speculated: Sequence[int], outcome: Outcome, after_hit: bool
    ) -> None:
        """Take in what the target made of the speculation."""
        ...


class FixedFanOut:
    """A fan-out for each number of accepted tokens: uniform, geometric, or a list F_0..F_K."""

    def __init__(self, kind: str | list[int], budget: int, lookahead: int):
        self.kind, self.budget, self.lookahead = kind, budget, lookahead
        self.exponent = 1.0  # r of the miss curve F^-r
        self.tested, self.accepted = 10.0, 7.0  # a, as if seven of ten tokens had been accepted

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

    def learn(
        self, ranked: Sequence[Ranked], speculated: Sequence[int], outcome: Outcome, after_hit: bool
    ) -> None:
        self.accepted += outcome.node
        self.tested += min(outcome.node + 1, len(speculated))


def outcome_policy(kind: str | list[int], budget: int, lookahead: int) -> OutcomePolicy:
    """The policy that a deployment's `speculation.fan_out` names."""
    return AdaptivePolicy(budget, lookahead) if kind == "adaptive" else FixedFanOut(kind, budget, lookahead)
