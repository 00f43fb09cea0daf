"""After calibration the simulated settings are as quick as the real ones were, whatever that was."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from saguaro.runtime.speculation.adaptive import AdaptivePolicy
from saguaro.tuner.calibration import and_variants, calibrate, nearby
from saguaro.tuner.costs import Costs
from saguaro.tuner.overheads import Overheads
from saguaro.tuner.recording import Recording
from saguaro.tuner.settings import Settings
from saguaro.tuner.simulation import Prediction, Simulation
from saguaro.tuner.turns import Turn

BASE = Settings("ssd", 4, 12, 8)
AR_ROUND, VERIFICATION = 0.25, 0.2  # seconds


def costs() -> Costs:
    layer = {1: 0.1, 12: 0.2}
    return Costs({0: 1.0, 8: 1.5}, {0: 1.1, 8: 1.6}, layer, layer, layer, layer)


def simulate(settings: Settings, own: Costs, batch: int) -> Prediction:
    """Of 30 tokens; every third is not the draft's first choice."""
    tokens, scores = np.tile(np.arange(8), (30, 1)), np.tile(-np.arange(8.0), (30, 1))
    text = Recording([1, 2], [int(i % 3 == 0) for i in range(30)], tokens, scores)
    policy = AdaptivePolicy(settings.budget, settings.lookahead)
    return Simulation(settings, own, policy=policy, taper=True).run([text], batch)


def turn(speed: float) -> Turn:
    return Turn(0.0, speed, start=0.04, ar_round=AR_ROUND, ar_verification=VERIFICATION)


def speed(settings: Settings, own: Costs) -> float:
    """Over AR's, of which a round brings one token."""
    return simulate(settings, own, 1).tokens_per_second * AR_ROUND


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_each_is_as_quick_as_it_was(temperature: float) -> None:
    at = nearby(BASE, 8)
    speeds = {"ar": 1.0, "sd": 1.1, "ssd": 1.9, "sd tree": 0.7, "ssd tree": 0.9, "ssd ngram": 1.7}
    assert [one.kind for one in at] == list(speeds)
    outliers = (0.1, 1.0, 9.0)  # the median counts
    passes = {
        one: [turn(speeds[one.kind] * factor) for factor in outliers] for one in and_variants(at, temperature)
    }
    own = calibrate(costs(), at, passes, 1, simulate)
    assert own.unit == pytest.approx(VERIFICATION)
    for settings in at:
        assert speed(settings, own) == pytest.approx(speeds[settings.kind])
    starts = [own.overheads.start_of(kind, 4) for kind in ("ssd", "ssd tree", "ssd ngram")]
    assert starts == pytest.approx([0.04 * AR_ROUND / VERIFICATION] * 3)
    assert ("rejection" in own.overheads.variants) is (temperature > 0)


def test_variants_are_as_much_slower_as_they_were() -> None:
    """`auto` than the better of the two that it chooses among, and never quicker; rejection than coupled."""
    at = nearby(BASE, 0)
    drafting, looking = at[2], at[3]
    auto, rejection = (replace(drafting, **change) for change in ({"fallback": "auto"}, {"verification": "rejection"}))
    assert and_variants(at, 1.0) == [*at, auto, rejection]

    def scale(**speeds: float) -> dict[str, float]:
        named = {drafting: "drafting", looking: "looking", auto: "auto", rejection: "rejection"}
        passes = {one: [turn(speeds.get(named.get(one, ""), 1.0))] for one in and_variants(at, 1.0)}
        return calibrate(costs(), at, passes, 1, simulate).overheads.variants

    assert scale(drafting=2.0, looking=2.5, auto=2.0, rejection=1.5)["auto"] == pytest.approx(0.8)
    assert scale(drafting=2.0, looking=2.5, auto=2.0, rejection=1.5)["rejection"] == pytest.approx(0.75)
    assert scale(drafting=2.0, looking=1.0, auto=2.2)["auto"] == 1.0


def test_what_was_measured_before_still_counts() -> None:
    at = [one for one in nearby(BASE, 0) if one.kind in ("ar", "ssd")]
    known = replace(costs(), overheads=Overheads(factors={"sd": {1.0: 4.0}}))
    for chains, quick in ((at[1], 1.3), (replace(at[1], lookahead=8, budget=24), 1.9)):
        both = [at[0], chains]
        passes = {one: [turn(quick if one == chains else 1.0)] for one in and_variants(both, 0.0)}
        known = calibrate(known, both, passes, 1, simulate)
    assert known.overheads.factor("sd", 2.0) == 4.0
    assert len(known.overheads.factors["ssd"]) == 2
    assert speed(at[1], known) == pytest.approx(1.3)


def test_between_what_was_measured() -> None:
    starts, factors = {"ssd": {4: 0.1, 8: 0.3}}, {"ssd": {1.0: 1.2, 2.0: 1.6}, "ssd tree": {3.0: 1.5}}
    overheads = Overheads(starts, factors)
    assert [overheads.factor("ssd", x) for x in (0.5, 1.25, 9.0)] == pytest.approx([1.2, 1.3, 1.6])
    assert [overheads.start_of("ssd", depth) for depth in (2, 6, 12)] == pytest.approx([0.1, 0.2, 0.3])
    assert (overheads.start_of("ssd tree", 6), overheads.factor("sd", 2.0)) == (0.0, 1.0)


def test_looking_up_is_taken_for_drafting_until_it_is_measured() -> None:
    overheads = Overheads(factors={"ssd": {1.0: 1.2}, "ssd tree": {1.0: 1.5}})
    kinds = ("ssd ngram", "ssd tree ngram", "sd ngram")
    assert [overheads.factor(kind, 2.0) for kind in kinds] == [1.2, 1.5, 1.0]
    overheads.factors["ssd ngram"] = {1.0: 1.1}
    assert overheads.factor("ssd ngram", 2.0) == 1.1
