"""The timeline of a run: what lies in it, and that the file is what Perfetto reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from saguaro import SamplingParams
from saguaro.errors import ConfigError
from saguaro.runtime.timing import Span
from saguaro.runtime.trace import Round, Trace, check_place
from tests.runtime.engines import MODES, Engines, random_prompts, total


def written(trace: Trace, file: Path) -> list[dict[str, Any]]:
    trace.write(file)
    assert list(file.parent.iterdir()) == [file]
    return json.loads(file.read_text())["traceEvents"]


def test_events_by_hand(tmp_path: Path) -> None:
    trace = Trace()
    trace.rounds = [
        Round("ar", 5.0, 6.0, [Span("prefill", 4.0, 4.5), Span("verification", 5.0, 5.75)], [], 0, 0, 1),
        Round("ssd", 7.0, 8.0, [], [Span("preparation", 7.25, 7.5)], 1, 0, 4),
        Round("ssd", 8.0, 9.0, [], [], 3, 1, 2),
    ]
    events = written(trace, tmp_path / "trace.json")
    labels = [(e["name"], e["pid"], e["tid"], e["args"]["name"]) for e in events if e["ph"] == "M"]
    assert labels == [
        ("process_name", 1, 0, "ar"), ("thread_name", 1, 1, "target"),
        ("process_name", 2, 0, "ssd"), ("thread_name", 2, 1, "target"), ("thread_name", 2, 2, "draft"),
    ]  # fmt: skip
    spans = [(e["name"], e["cat"], e["pid"], e["tid"], e["ts"], e["dur"]) for e in events if e["ph"] == "X"]
    assert spans == [
        ("round", "round", 1, 1, 1e6, 1e6),
        ("prefill", "target", 1, 1, 0, 0.5e6),
        ("verification", "target", 1, 1, 1e6, 0.75e6),
        ("hit", "round", 2, 1, 3e6, 1e6),
        ("preparation", "draft", 2, 2, 3.25e6, 0.25e6),
        ("miss", "round", 2, 1, 4e6, 1e6),
    ]
    assert events[-1]["args"] == {"tokens": 2, "hits": 3, "misses": 1}


def test_nothing_ran(tmp_path: Path) -> None:
    assert written(Trace(), tmp_path / "trace.json") == []


def test_a_run_of_every_mode(engines: Engines, tmp_path: Path) -> None:
    """What the metrics count is what the timeline shows, and everything on one thread lies within its round."""
    llm, prompts = engines.llm(), random_prompts(6)
    params = SamplingParams(max_tokens=20, temperature=0, ignore_eos=True)
    trace = llm.trace = Trace()
    try:
        runs = {mode: llm.generate(prompts, params, mode) for mode in MODES}
    finally:
        llm.trace = None
    llm.generate(prompts, params, "ssd")  # is not in it
    events = written(trace, tmp_path / "trace.json")
    process = {e["args"]["name"]: e["pid"] for e in events if e["name"] == "process_name"}
    assert list(process) == list(MODES)
    for mode, outputs in runs.items():
        own = [e for e in events if e["pid"] == process[mode] and e["ph"] == "X"]
        rounds = [e for e in own if e["cat"] == "round"]
        counted = total(outputs)
        assert sum(e["args"]["tokens"] for e in rounds) == counted.output_tokens == 120
        assert sum(e["args"]["hits"] for e in rounds) == counted.hits
        assert sum(e["args"]["misses"] for e in rounds) == counted.misses
        assert {e["name"] for e in rounds} <= ({"hit", "miss"} if mode == "ssd" else {"round"})
        verifications = [e for e in own if e["name"] == "verification"]
        assert len(verifications) == len(rounds)
        for outer, inner in zip(rounds, verifications, strict=True):
            assert outer["ts"] <= inner["ts"] <= inner["ts"] + inner["dur"] <= outer["ts"] + outer["dur"]
        assert sum(e["name"] == "prefill" and e["cat"] == "target" for e in own) == len(prompts)
        assert any(e["name"] == "preparation" for e in own) == (mode == "ssd")
        assert any(e["cat"] == "draft" for e in own) == (mode != "ar")


def test_a_file_that_is_there_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "trace.json"
    file.write_text("old")
    trace = Trace()
    trace.rounds = [Round("ar", 0, 1, [], [], 0, 0, object())]  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        trace.write(file)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_places_that_cannot_be_written_to(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no directory"):
        check_place(tmp_path / "no" / "trace.json")
    with pytest.raises(ConfigError, match="is a directory"):
        check_place(tmp_path)
    assert check_place(tmp_path / "trace.json") == tmp_path / "trace.json"
