from __future__ import annotations

import json
import shutil

import pytest

from saguaro.cli import bundled
from saguaro.cli.measure import Comparison, ModeResult, compare
from saguaro.cli.prompt_input import PromptLine
from saguaro.cli.tables import _reasons as reasons
from saguaro.runtime.metrics import RequestMetrics, RunMetrics


@pytest.fixture
def prompts(tmp_path):
    file = tmp_path / "prompts.jsonl"
    message = {"role": "user", "content": "write f"}
    lines = [{"prompt": "def f("}, {"prompt": "class A:"}, {"messages": [message]}]
    file.write_text("\n".join(json.dumps(line) for line in lines) + "\n\n")
    return file


def test_json(saguaro, engine, prompts):
    result = saguaro("bench", engine, "--prompts", prompts, "--max-tokens", 12, "--repeat", 2, "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    assert answer["engine"] == str(engine)
    assert answer["identical"] is True
    assert answer["prompts"] == 3
    assert list(answer["modes"]) == ["ar", "sd", "ssd"]
    for mode, values in answer["modes"].items():
        assert values["tokens"] == 36
        assert values["tokens_per_second"] == pytest.approx(36 / values["seconds"])
        assert (values["rounds"] == 36) == (mode == "ar")
        assert ("acceptance_rate" in values) == ("tokens_per_round" in values) == (mode != "ar")
        assert ("hit_rate" in values) == (mode == "ssd")
    ssd = answer["modes"]["ssd"]
    for name in ("hit_rate", "overlap"):
        assert 0 <= ssd[name] <= 1
    assert ssd["predicted_speedup"] > 0
    ar = answer["modes"]["ar"]
    assert ssd["speedup"] == pytest.approx(ssd["tokens_per_second"] / ar["tokens_per_second"])


def test_tables_fit_a_terminal(saguaro, engine, prompts):
    result = saguaro("bench", engine, "--prompts", prompts, "--max-tokens", 12, "--repeat", 1)
    assert result.exit_code == 0, result.output
    for part in ("tokens/s", "What made the difference", "speed model predicts", "The tokens are the same"):
        assert part in " ".join(result.stdout.split())
    assert max(map(len, result.stdout.splitlines())) <= 80
    rows = [line.split()[0] for line in result.stdout.splitlines() if line.startswith(("ar ", "sd ", "ssd "))]
    assert rows[:6] == ["ar", "sd", "ssd", "ar", "sd", "ssd"]


def test_one_mode_alone(saguaro, engine, prompts):
    bench = ["bench", engine, "--prompts", prompts, "--max-tokens", 8, "--repeat", 1]
    result = saguaro(*bench, "--modes", "ssd")
    assert result.exit_code == 0, result.output
    assert "ar " not in [line[:3] for line in result.stdout.splitlines()]
    values = json.loads(saguaro(*bench, "--modes", "ssd,ssd", "--json").stdout)["modes"]
    assert list(values) == ["ssd"]
    assert values["ssd"]["speedup"] is None
    assert values["ssd"]["predicted_speedup"] > 0


def test_trace(saguaro, engine, prompts, tmp_path):
    """The timeline is of the first pass alone."""
    file = tmp_path / "trace.json"
    bench = ["bench", engine, "--prompts", prompts, "--max-tokens", 8, "--repeat", 2, "--json", "--trace", file]
    result = saguaro(*bench)
    assert result.exit_code == 0, result.output
    answer, events = json.loads(result.stdout), json.loads(file.read_text())["traceEvents"]
    assert {e["args"]["name"] for e in events if e["name"] == "process_name"} == set(answer["modes"])
    tokens = [e["args"]["tokens"] for e in events if e.get("cat") == "round"]
    assert sum(tokens) == sum(values["tokens"] for values in answer["modes"].values())


def test_a_trace_that_cannot_be_written_is_refused_at_once(refused, engine, prompts, tmp_path):
    place = tmp_path / "no" / "trace.json"
    refused([place, "no directory"], "bench", engine, "--prompts", prompts, "--trace", place)
    refused([tmp_path, "is a directory"], "bench", engine, "--prompts", prompts, "--trace", tmp_path)


def test_only_the_demo_pair_has_prompts_of_its_own(refused, engine, pair, tmp_path, monkeypatch):
    refused(["--prompts"], "bench", engine)
    monkeypatch.setattr(bundled, "ROOT", tmp_path)
    shutil.copytree(pair, tmp_path / "examples" / "demo")
    refused(["--prompts"], "bench", engine)  # of the same models, but not built from there


@pytest.mark.parametrize(
    ("content", "parts"),
    [
        ("", ["no prompts"]),
        ('{"prompt": "x"}\n{"prompt": ', ["line 2", "not JSON"]),
        ('{"prompt": "x"}\n\n{"promt": "y"}\n', ["line 3", '{"promt": "y"}']),
        ('{"prompt": ""}', ["line 1"]),
        ('["x"]', ["line 1"]),
        ('{"prompt": "x", "messages": [{"role": "user", "content": "y"}]}', ["line 1"]),
        ('{"messages": []}', ["line 1"]),
        ('{"messages": [{"role": "user"}]}', ["line 1", '"content"']),
        ('{"prompt": "%s"}' % ("x " * 5000), ["line 1", "4096"]),
    ],
)
def test_bad_prompts_are_one_sentence(refused, engine, tmp_path, content, parts):
    file = tmp_path / "prompts.jsonl"
    file.write_text(content)
    refused([file, *parts], "bench", engine, "--prompts", file, "--max-tokens", 8)


def test_bad_options(refused, engine, prompts, tmp_path):
    refused(["mode is 'spec'", "ar, sd, ssd"], "bench", engine, "--prompts", prompts, "--modes", "ar,spec")
    refused([tmp_path / "no", "no such file"], "bench", engine, "--prompts", tmp_path / "no")
    refused(["max_tokens is 0"], "bench", engine, "--prompts", prompts, "--max-tokens", 0)
    refused([tmp_path / "no", "no such engine"], "bench", tmp_path / "no", "--prompts", prompts)


class ScriptedLLM:
    """Answers at once, with the times that it is told."""

    def __init__(self, seconds: list[float]):
        self._seconds, self.calls = iter(seconds), []
        self.last_run = RunMetrics()

    def generate(self, prompts, params, mode):
        self.calls.append((prompts[0], mode, params.max_tokens))
        seconds = 1.0 if params.max_tokens < 32 else next(self._seconds)  # of the warm-up, or as told
        self.metrics = RequestMetrics(seconds=seconds, output_tokens=10, rounds=5)
        self.outputs = [self]
        self.token_ids = [1, 2]
        return [self]


def test_the_modes_take_turns_after_a_warm_up_and_medians_count():
    from saguaro import SamplingParams

    llm = ScriptedLLM([1, 2, 3, 4, 9, 2, 30, 4, 2, 2, 3, 4])
    lines = [PromptLine("a", "line 1"), PromptLine("b", "line 2")]
    comparison = compare(llm, lines, ["ar", "sd"], SamplingParams(max_tokens=32), repeat=3)
    assert llm.calls[:2] == [("a", "ar", 16), ("a", "sd", 16)]
    turns = [(prompt, mode) for prompt, mode, _ in llm.calls[2:]]
    one = [("a", "ar"), ("a", "sd"), ("b", "sd"), ("b", "ar")]
    other = [("a", "sd"), ("a", "ar"), ("b", "ar"), ("b", "sd")]
    assert turns == [*one, *other, *one]
    ar = comparison.modes["ar"]
    assert ar.seconds_of == {0: [1, 2, 2], 1: [4, 30, 4]}
    assert ar.seconds == 2 + 4
    assert ar.tokens == 20
    assert comparison.modes["sd"].seconds_of == {0: [2, 9, 2], 1: [3, 4, 3]}
    assert comparison.speedup("sd", "ar") == pytest.approx(6 / 5)


def test_what_auto_did_is_told():
    results = {mode: ModeResult(repeat=1) for mode in ("ar", "sd", "ssd")}
    for mode, result in results.items():
        off, sequential = {"ar": (0, 0), "sd": (5, 0), "ssd": (10, 4)}[mode]
        run = RunMetrics(rounds=20, in_rounds=1.0, auto_off=off, auto_sequential=sequential)
        result.add(0, [1], RequestMetrics(seconds=1.0, output_tokens=20, rounds=20), run)
    comparison = Comparison(results, prompts=1)
    modes = comparison.to_dict()["modes"]
    assert "auto_off" not in modes["ar"]
    assert (modes["sd"]["auto_off"], modes["ssd"]["auto_off"], modes["ssd"]["auto_sequential"]) == (0.25, 0.5, 0.2)
    told = [line for line in reasons(comparison) if "auto" in line]
    assert [("25%" in line, "50%" in line and "20%" in line) for line in told] == [(True, False), (False, True)]


def test_different_tokens_are_told():
    results = {mode: ModeResult(repeat=1) for mode in ("ar", "ssd")}
    for mode, result in results.items():
        for prompt in (0, 1):
            tokens = [1, 2, 3] if prompt == 0 or mode == "ar" else [1, 2, 4]
            result.add(prompt, tokens, RequestMetrics(seconds=1.0, output_tokens=3, rounds=3), RunMetrics())
    comparison = Comparison(results, prompts=2)
    assert comparison.identical == 1


def test_the_share_outside_the_models_is_a_median_of_passes():
    """The first pass was slow to start, and had half its time to itself."""
    result = ModeResult(repeat=3)
    for forward in (0.5, 0.9, 0.8):
        for prompt in (0, 1):  # the second prompt's rounds take three times as long, and wait for nothing
            run = RunMetrics(rounds=1, in_rounds=1.0 + 2 * prompt, forward=3.0 if prompt else forward)
            result.add(prompt, [1], RequestMetrics(seconds=1.0, output_tokens=1, rounds=1), run)
    assert result.outside_forwards == pytest.approx(0.2 / 4)
