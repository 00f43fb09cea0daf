"""Settings that take turns with AR: on a machine that others use too, both are slow together, and quick together."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from statistics import fmean

from saguaro.runtime.trace import Round, Trace
from saguaro.tuner.runs import Measured, Runner
from saguaro.tuner.settings import Settings

FEW = 4  # prompts at least for AR's pass, in which every token takes as long as another


@dataclass
class Turn:
    """One pass with some settings."""

    tokens_per_second: float
    speed: float  # over AR's just before and after
    seconds: float  # of a round, over a round of AR's
    rounds: list[Round]


class Turns:
    """Of one batch size, one after another with nothing else between them."""

    def __init__(self, runner: Runner, ar: Settings, batch: int):
        self.runner, self.ar, self.batch = runner, ar, batch
        self.ar_rounds: list[Round] = []
        self._before: Measured | None = None

    def take(self, settings: Settings) -> Turn:
        """A pass over all prompts, between two of AR's over a few."""
        before = self._before or self._plain()[0]
        if settings == self.ar:
            self._before, rounds = self._plain()
            return Turn(self._before.rates[0], 1.0, 1.0, rounds)
        found, rounds = self._pass(settings, None)
        self._before, _ = self._plain()
        rate = fmean(before.rates + self._before.rates)
        seconds = fmean(before.round_seconds + self._before.round_seconds)
        return Turn(found.rates[0], found.rates[0] / rate, found.round_seconds[0] / seconds, rounds)

    def _plain(self) -> tuple[Measured, list[Round]]:
        measured, rounds = self._pass(self.ar, ceil(FEW / self.batch) * self.batch)  # no batch that is half empty
        self.ar_rounds += rounds
        return measured, rounds

    def _pass(self, settings: Settings, prompts: int | None) -> tuple[Measured, list[Round]]:
        measured, llm = Measured(), self.runner.llm
        llm.trace = Trace()
        try:
            self.runner.run(settings, self.batch, measured, prompts)
            return measured, llm.trace.rounds
        finally:
            llm.trace = None
