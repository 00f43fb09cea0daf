"""How many draft steps a known outcome waits for, against trying every number."""

from __future__ import annotations

import random

from saguaro.runtime.speculation import depths_worth_waiting_for


def test_no_longer_wait_is_better() -> None:
    """From every number of drafted tokens the rule waits exactly when some wait, of one step or of several, pays."""
    dice = random.Random(2)
    for _ in range(1000):
        a, step, lookahead = dice.uniform(0.01, 0.99), dice.uniform(0.001, 1.5), dice.randint(1, 9)

        def speed(depths: int, waited: int, a: float = a, step: float = step) -> float:
            return sum(a**i for i in range(depths + 1)) / (1 + waited * step)

        found = depths_worth_waiting_for(a, 3 * step, 3.0, lookahead)
        assert 1 <= found <= lookahead
        for drafted in range(1, lookahead):
            waits = [speed(drafted + more, more) for more in range(1, lookahead - drafted + 1)]
            assert (max(waits) > speed(drafted, 0)) == (drafted < found)


def test_the_ends() -> None:
    assert depths_worth_waiting_for(0.9, 0.0, 1.0, 6) == 6  # free steps are all taken
    assert depths_worth_waiting_for(0.9, 100.0, 1.0, 6) == 1  # without a token there is no speculation
    assert depths_worth_waiting_for(0.5, 0.1, 1.0, 1) == 1
