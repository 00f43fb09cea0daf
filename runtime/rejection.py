"""The two sides of a round under `verification: rejection`, as a deployment asks for them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from saguaro.runtime.rejection_drafter import RejectionDrafter
from saguaro.runtime.sequence import Sequence
from saguaro.runtime.sessions.session import Session
from saguaro.runtime.speculation import OutcomePolicy
from saguaro.runtime.speculation.rejection_policy import rejection_policies


def rejection_drafter(session: Session, speculation: dict[str, Any], chunk: int, vocab_size: int) -> RejectionDrafter:
    """`speculation`: the deployment file's section of that name; `vocab_size`: the target's."""
    lookahead, budget = speculation["lookahead"], speculation["budget"]
    make = rejection_policies(speculation["fan_out"], budget, lookahead)
    return RejectionDrafter(
        session,
        lookahead=lookahead,
        policy=_each_its_own(make) if speculation["fallback"] == "ngram" else _shared(make),
        chunk=chunk,
        vocab_size=vocab_size,
        taper=False,
        top=max(1, budget // (lookahead + 1)),
        weight=speculation.get("saguaro_c", 1.0),
    )


def _shared(make: Callable[[bool], OutcomePolicy]) -> Callable[[Sequence], OutcomePolicy]:
    policies = {greedy: make(greedy) for greedy in (True, False)}
    return lambda sequence: policies[sequence.params.temperature == 0]


def _each_its_own(make: Callable[[bool], OutcomePolicy]) -> Callable[[Sequence], OutcomePolicy]:
    """Where a miss changes what is proposed, what was learned from other requests would change what a seed gives."""
    policies: WeakKeyDictionary[Sequence, OutcomePolicy] = WeakKeyDictionary()

    def policy(sequence: Sequence) -> OutcomePolicy:
        if sequence not in policies:
            policies[sequence] = make(sequence.params.temperature == 0)
        return policies[sequence]

    return policy
