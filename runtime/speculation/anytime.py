"""Anytime drafting (design 3.6): how long it pays to wait for the draft once the outcome is known."""

from __future__ import annotations


def depths_worth_waiting_for(acceptance: float, step: float, verification: float, lookahead: int) -> int:
    """The number of drafted tokens below which one more draft step pays, at least 1 and at most K.

    A speculation of m tokens gives E(m) = 1 + a + ... + a^m tokens in a verification. Waiting `step` for one more gives
    a^(m+1) tokens more; it pays while E(m + 1) / (verification + step) > E(m) / verification, which is while
    a^(m+1) / E(m) > step / verification. The left side falls with m.

    Args:
        acceptance: a, the probability that a speculated token is accepted.
        step: seconds of one draft step.
        verification: seconds of one verification, > 0.
        lookahead: K >= 1.
    """
    tokens, more = 1.0, acceptance
    for drafted in range(lookahead):
        if drafted and more / tokens <= step / verification:
            return drafted
        tokens, more = tokens + more, more * acceptance
    return lookahead
