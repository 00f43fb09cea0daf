"""A setting's speed is over that of AR meanwhile, however quick the machine is at the time."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from saguaro.runtime.metrics import RequestMetrics, RunMetrics
from saguaro.runtime.timing import Span
from saguaro.runtime.trace import Round
from saguaro.tuner import passes
from saguaro.tuner.passes import take_passes
from saguaro.tuner.report import Report
from saguaro.tuner.runs import Runner
from saguaro.tuner.settings import Settings
from saguaro.tuner.turns import take_turns

AR, SD, SSD = Settings("ar", 5, 8), Settings("sd", 5, 8), Settings("ssd", 5, 8)
TOKENS = {"ar": 1, "sd": 3, "ssd": 4}  # of a round
SECONDS = {"ar": 1.0, "sd": 1.5, "ssd": 1.2}


class Machine:
    """As an LLM. A group of prompts takes ten rounds, after some groups all become ten times slower."""

    def __init__(self, slow_after: int) -> None:
        self.slow_after, self.trace = slow_after, None
        self.pair = SimpleNamespace(configuration=None)
        self.ran: list[tuple[str, list[list[int]]]] = []
        self.seen: dict[int, list[str]] = {}  # by configuration

    def change(self, **changes: Any) -> None:
        self.pair.configuration = SimpleNamespace(mode=changes["mode"])

    def generate(self, prompts: list[list[int]], params: list[Any], mode: str) -> list[Any]:
        assert self.pair.configuration.mode == mode
        self.seen.setdefault(id(self.pair.configuration), []).append(mode)
        seconds = SECONDS[mode] * (1.0 if len(self.ran) < self.slow_after else 10.0)
        self.ran.append((mode, prompts))
        clock = 1000 * len(self.ran)
        for at in range(clock, clock + 1000, 100):
            spans = [Span("verification", at, at + 0.9 * seconds), Span("other", at, at + 50)]
            drafts = [Span("preparation", at + 1, at + 2), Span("forward", at + 1.25, at + 1.3)] * (mode == "ssd")
            self.trace.rounds.append(Round(mode, at, at + seconds, spans, drafts, 0, 0, 0))
        self.last_run = RunMetrics(rounds=10, in_rounds=10 * seconds)
        output = SimpleNamespace(outputs=[SimpleNamespace(token_ids=[0] * 10 * TOKENS[mode])], metrics=RequestMetrics())
        return [output]


def runner(prompts: int, slow_after: int = 10**9) -> tuple[Runner, Any]:
    machine: Any = Machine(slow_after)
    return Runner(machine, [[i] for i in range(prompts)], max_tokens=8, temperature=0.0), machine


def test_speeds_are_over_ar() -> None:
    run, _ = runner(3)
    ar, sd, ssd = take_turns(run, [AR, SD, SSD], 1, seed=0, done=lambda: None)
    assert (ar.speed, sd.speed, ssd.speed) == pytest.approx((1.0, 3 / 1.5, 4 / 1.2))
    assert (ar.tokens_per_second, ssd.tokens_per_second) == pytest.approx((1.0, 4 / 1.2))
    assert (ar.ar_round, ssd.ar_verification) == pytest.approx((1.0, 0.9))
    assert (sd.start, ssd.start) == pytest.approx((0.0, 0.25))


def test_all_are_slow_together() -> None:
    run, machine = runner(4, slow_after=6)  # two prompts quick with each, two slow
    ar, sd, ssd = take_turns(run, [AR, SD, SSD], 1, seed=0, done=lambda: None)
    assert (ar.speed, sd.speed, ssd.speed) == pytest.approx((1.0, 3 / 1.5, 4 / 1.2))
    assert len(machine.ran) == 12


def test_the_passes_of_ar_count_together() -> None:
    run, _ = runner(1, slow_after=1)
    turns = take_turns(run, [AR, SD, AR], 1, seed=3, done=lambda: None)
    assert [turn.speed for turn in (turns[0], turns[2])] == [1.0, 1.0]
    assert turns[1].speed == pytest.approx(0.2 / 0.55)  # one pass of AR was quick


def test_each_group_runs_with_all_in_changing_order() -> None:
    run, machine = runner(10)
    groups: list[int] = []
    take_turns(run, [AR, SD, SSD, SSD], 4, seed=1, done=lambda: groups.append(len(machine.ran)))
    assert groups == [4, 8, 12]
    rounds = [machine.ran[first : first + 4] for first in (0, 4, 8)]
    for group, first in zip(rounds, (0, 4, 8), strict=True):
        assert sorted(mode for mode, _ in group) == ["ar", "sd", "ssd", "ssd"]
        assert all(prompts == [[i] for i in range(first, min(first + 4, 10))] for _, prompts in group)
    assert len({tuple(mode for mode, _ in group) for group in rounds}) > 1
    assert sorted(map(len, machine.seen.values())) == [3, 3, 3, 3]  # each learns for itself


def test_passes_are_kept(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    run, machine = runner(3)
    wanted = [("a", AR), ("a", SD), ("b", SD)]
    counted: list[tuple[int, int]] = []

    def take(file: str, wanted: list[tuple[str, Settings]]) -> Any:
        report = Report.open(tmp_path / file, "key")
        return take_passes(
            run, report, "stage", wanted, batches=[1, 2], repeat=2, progress=lambda *now: counted.append(now)
        )

    first = take("report.json", wanted)
    assert {key: {one: len(turns) for one, turns in taken.items()} for key, taken in first.items()} == {
        ("a", 1): {AR: 2, SD: 2}, ("a", 2): {AR: 2, SD: 2}, ("b", 1): {SD: 2}, ("b", 2): {SD: 2}
    }  # fmt: skip
    assert (counted[0], counted[-1]) == ((0, 10), (10, 10))
    before = len(machine.ran)
    assert take("report.json", wanted) == first
    assert len(machine.ran) == before
    take("report.json", [*wanted, ("b", SSD)])  # what is kept are other passes
    assert len(machine.ran) > before
    monkeypatch.setattr(passes, "take_turns", None)
    with pytest.raises(TypeError):
        take("other.json", wanted)
