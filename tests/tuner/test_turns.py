"""A setting's speed is over that of AR just before and after it, however quick the machine is at the time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from saguaro.runtime.timing import Span
from saguaro.runtime.trace import Round
from saguaro.tuner.costs import Costs
from saguaro.tuner.runs import Measured
from saguaro.tuner.settings import Settings
from saguaro.tuner.turns import FEW, Turns

AR, SD, SSD = Settings("ar", 5, 8), Settings("sd", 5, 8), Settings("ssd", 5, 8)


class Machine:
    """AR makes 100 tokens a second, SD 250, SSD 600; with every pass all become slower by a tenth of that."""

    def __init__(self) -> None:
        self.llm = SimpleNamespace(trace=None)
        self.ran: list[tuple[Settings, int | None]] = []

    def run(self, settings: Settings, batch: int, into: Measured, prompts: int | None) -> None:
        quick = 1 - 0.1 * len(self.ran)
        self.ran.append((settings, prompts))
        seconds = {"ar": 1.0, "sd": 1.5, "ssd": 1.2}[settings.mode] / quick
        spans = [Span("verification", 0.0, 0.9 * seconds), Span("other", 0.0, 5.0)]
        drafts = [Span("preparation", 1.0, 2.0), Span("forward", 1.1 / quick, 1.2 / quick)] if settings != AR else []
        self.llm.trace.rounds.append(Round(settings.mode, 0.0, seconds, spans, drafts, 0, 0, 0))
        into.rates.append(quick * {"ar": 100, "sd": 250, "ssd": 600}[settings.mode])
        into.round_seconds.append(seconds)


@pytest.mark.parametrize(("batch", "few"), [(1, FEW), (FEW - 1, 2 * FEW - 2), (FEW + 3, FEW + 3)])
def test_each_lies_between_two_of_ar(batch: int, few: int) -> None:
    machine: Any = Machine()
    turns = Turns(machine, AR, batch)
    sd, ssd, ar = (turns.take(settings) for settings in (SD, SSD, AR))
    assert machine.ran == [(AR, few), (SD, None), (AR, few), (SSD, None), (AR, few), (AR, few)]
    assert (sd.speed, ssd.speed, ar.speed) == pytest.approx((2.5, 6.0, 1.0))
    assert (sd.tokens_per_second, ssd.tokens_per_second, ar.tokens_per_second) == pytest.approx((225, 420, 50))
    ar_round = (1 + 1 / 0.8) / 2
    assert (sd.ar_round, sd.ar_verification) == pytest.approx((ar_round, 0.9 * ar_round))
    assert sd.round == pytest.approx(1.5 / 0.9 / ar_round)
    assert sd.start == pytest.approx((1.1 / 0.9 - 1.0) / ar_round)  # up to the first forward pass
    assert (ar.round, ar.start) == (1.0, 0.0)
    assert machine.llm.trace is None


def test_looking_up_is_taken_for_drafting_until_it_is_measured() -> None:
    costs = Costs(scale={"ssd": 1.2, "ssd tree": 1.5})
    assert [costs.factor(kind) for kind in ("ssd ngram", "ssd tree ngram", "sd ngram")] == [1.2, 1.5, 1.0]
    costs.scale["ssd ngram"] = 1.1
    assert costs.factor("ssd ngram") == 1.1
