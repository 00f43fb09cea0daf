"""Settings that take turns with AR: on a machine that others use too, both are slow together, and quick together."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil
from statistics import fmean, median

from saguaro.runtime.trace import Round, Trace
from saguaro.tuner.runs import Measured, Runner
from saguaro.tuner.settings import Settings

FEW = 4  # prompts at least for AR's pass, in which every token takes as long as another


@dataclass
class Turn:
    """One pass with some settings, and what AR's passes just before and after it say."""

    tokens_per_second: float
    speed: float  # over AR's
    round: float  # what one takes, over one of AR's
    start: float  # what a preparation takes besides its layers, over a round of AR's
    ar_round: float  # seconds
    ar_verification: float  # seconds; the model alone


class Turns:
    """Of one batch size, one after another with nothing else between them."""

    def __init__(self, runner: Runner, ar: Settings, batch: int):
        self.runner, self.ar, self.batch = runner, ar, batch
        self._before: tuple[Measured, list[Round]] | None = None

    def take(self, settings: Settings) -> Turn:
        """A pass over all prompts, between two of AR's over a few."""
        before = self._before or self._plain()
        found, rounds = (None, []) if settings == self.ar else self._pass(settings, None)
        after = self._before = self._plain()
        plain = before[1] + after[1]
        ar_round = median(one.end - one.start for one in plain)
        ar_verification = median(span.seconds for one in plain for span in one.target if span.name == "verification")
        if found is None:
            return Turn(after[0].rates[0], 1.0, 1.0, 0.0, ar_round, ar_verification)
        return Turn(
            tokens_per_second=found.rates[0],
            speed=found.rates[0] / fmean(before[0].rates + after[0].rates),
            round=found.round_seconds[0] / fmean(before[0].round_seconds + after[0].round_seconds),
            start=_start(rounds, settings.tree_nodes > 0) / ar_round,
            ar_round=ar_round,
            ar_verification=ar_verification,
        )

    def _plain(self) -> tuple[Measured, list[Round]]:
        return self._pass(self.ar, ceil(FEW / self.batch) * self.batch)  # no batch that is half empty

    def _pass(self, settings: Settings, prompts: int | None) -> tuple[Measured, list[Round]]:
        measured, llm = Measured(), self.runner.llm
        llm.trace = Trace()
        try:
            self.runner.run(settings, self.batch, measured, prompts)
            return measured, llm.trace.rounds
        finally:
            llm.trace = None


def _start(rounds: list[Round], tree: bool) -> float:
    """Seconds that a preparation takes besides its layers: up to the first forward pass, and where the layers' costs
    are of forward passes alone, between them."""
    spans = [span for r in rounds for span in r.draft]
    forwards = [span for span in spans if span.name == "forward"]
    lost = []
    for preparation in (span for span in spans if span.name == "preparation"):
        own = [f for f in forwards if preparation.start <= f.start < preparation.end]
        if own:
            between = 0.0 if tree else own[-1].end - own[0].start - sum(f.seconds for f in own)
            lost.append(own[0].start - preparation.start + between)
    return median(lost) if lost else 0.0
