"""Settings that take turns: a machine that others use too may be slow for seconds or minutes, and then all are slow."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from statistics import fmean, median

from saguaro.runtime.trace import Round
from saguaro.tuner.runs import Run, Runner
from saguaro.tuner.settings import Settings


@dataclass
class Turn:
    """All prompts with some settings, and what AR took meanwhile."""

    tokens_per_second: float
    speed: float  # over AR's
    start: float  # what a preparation takes besides its layers, over a round of AR's
    ar_round: float  # seconds
    ar_verification: float  # seconds; the model alone


def take_turns(
    runner: Runner, wanted: Sequence[Settings], batch: int, *, seed: int, done: Callable[[], None]
) -> list[Turn]:
    """The prompts with each of the settings, AR among them: for one group of prompts all, in an order that chance
    decides anew, then for the next. `done` is called after each group."""
    runs, order = [Run(runner, settings) for settings in wanted], Random(seed)
    for group in runner.groups(batch):
        for run in order.sample(runs, len(runs)):
            run.go(group)
        done()
    plain = [run for run in runs if run.settings.mode == "ar"]
    rate = fmean(run.tokens_per_second for run in plain)
    rounds = [one for run in plain for one in run.rounds]
    ar_round = median(one.end - one.start for one in rounds)
    ar_verification = median(span.seconds for one in rounds for span in one.target if span.name == "verification")

    def turn(run: Run) -> Turn:
        speed = 1.0 if run in plain else run.tokens_per_second / rate  # AR's may be one of several
        start = _start(run.rounds, run.settings.tree_nodes > 0) / ar_round
        return Turn(run.tokens_per_second, speed, start, ar_round, ar_verification)

    return [turn(run) for run in runs]


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
