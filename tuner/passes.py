"""Passes over the prompts with several settings, taking turns: kept in the report as soon as they are done."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict

from saguaro.tuner.report import Report
from saguaro.tuner.runs import Runner
from saguaro.tuner.settings import Settings
from saguaro.tuner.turns import Turn, take_turns

Passes = dict[tuple[str, int], dict[Settings, list[Turn]]]  # by what they are for and the batch size, and with what


def take_passes(
    runner: Runner,
    report: Report,
    stage: str,
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
    passes: Passes = defaultdict(lambda: defaultdict(list))
    settings = [one for _, one in wanted]
    labels = [f"{purpose}: {one}" for purpose, one in wanted]
    count, total = 0, repeat * sum(len(runner.groups(batch)) for batch in batches)

    def done() -> None:
        nonlocal count
        count += 1
        progress(count, total)

    progress(0, total)
    for again in range(repeat):
        for batch in batches:
            names = ("passes", stage, str(batch), str(again))
            kept = report.get(*names)
            if kept is None or list(kept) != labels:
                turns = take_turns(runner, settings, batch, seed=again, done=done)
                kept = {label: asdict(turn) for label, turn in zip(labels, turns, strict=True)}
                report.note(kept, *names)
            for (purpose, one), turn in zip(wanted, kept.values(), strict=True):
                passes[purpose, batch][one].append(Turn(**turn))
    progress(total, total)
    return passes
