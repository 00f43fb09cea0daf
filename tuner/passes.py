"""Passes over the prompts with several settings, taking turns: each is kept in the report as soon as it is done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict

from saguaro.tuner.report import Report
from saguaro.tuner.runs import Runner
from saguaro.tuner.settings import Settings
from saguaro.tuner.turns import Turn, Turns

Passes = dict[tuple[str, int], dict[Settings, list[Turn]]]  # by what they are for and the batch size, and with what


def take_turns(
    runner: Runner,
    report: Report,
    wanted: Sequence[tuple[str, Settings]],
    *,
    batches: Sequence[int],
    repeat: int,
    progress: Callable[[int, int], None],
) -> Passes:
    """`repeat` times one pass of each, AR among them, at each batch size.

    Args:
        wanted: what a pass is for, and with what.
    """
    ar = next(settings for _, settings in wanted if settings.mode == "ar")
    passes: Passes = defaultdict(lambda: defaultdict(list))
    done, total = 0, repeat * len(batches) * len(wanted)
    for again in range(repeat):
        for batch in batches:
            turns = Turns(runner, ar, batch)
            for purpose, settings in wanted:
                progress(done, total)
                names = ("passes", purpose, str(batch), str(settings), str(again))
                if report.get(*names) is None:
                    report.note(asdict(turns.take(settings)), *names)
                passes[purpose, batch][settings].append(Turn(**report.get(*names)))
                done += 1
    progress(total, total)
    return passes
