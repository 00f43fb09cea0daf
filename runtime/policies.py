"""The outcome policies of a loaded pair, and what they learned as one JSON object."""

from __future__ import annotations

from typing import Any

from saguaro.runtime.sequence import Sequence
from saguaro.runtime.speculation import OutcomePolicy, outcome_policy


class Policies:
    """One for greedy requests and one for sampled ones: greedy scores are logits, the others are perturbed, and their
    margins mean different things."""

    def __init__(self, speculation: dict[str, Any]):
        """`speculation`: the deployment file's section of that name."""
        kind, budget, lookahead = speculation["fan_out"], speculation["budget"], speculation["lookahead"]
        self._kind = "adaptive" if kind == "adaptive" else "fixed"
        self._of = {name: outcome_policy(kind, budget, lookahead) for name in ("greedy", "sampled")}

    def __call__(self, sequence: Sequence) -> OutcomePolicy:
        return self._of["greedy" if sequence.params.temperature == 0 else "sampled"]

    def statistics(self) -> dict[str, Any]:
        return {name: {self._kind: policy.statistics()} for name, policy in self._of.items()}

    def restore(self, statistics: dict[str, Any]) -> None:
        """Go on from what policies of this kind learned; other kinds' is left aside. Raises ValueError for anything
        that is not from `statistics`."""
        try:
            for name, policy in self._of.items():
                learned = statistics.get(name, {}).get(self._kind)
                if learned is not None:
                    policy.restore(learned)
        except (TypeError, AttributeError, ValueError) as error:
            raise ValueError(str(error)) from error
