from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from saguaro import LLM, SamplingParams
from saguaro.engine.directory import open_engine_directory
from saguaro.tuner import settings
from saguaro.tuner.runs import Run
from saguaro.tuner.search import Search


@pytest.fixture
def own(engine, tmp_path, monkeypatch):
    """A copy of the engine, and a grid of a few settings."""
    monkeypatch.setattr(settings, "LOOKAHEADS", (2, 3))
    monkeypatch.setattr(settings, "BUDGETS", (4, 6))
    monkeypatch.setattr(settings, "TREES", (0, 3))
    return shutil.copytree(engine, tmp_path / "engine")


@pytest.fixture
def prompts(tmp_path):
    file = tmp_path / "prompts.jsonl"
    file.write_text("\n".join(json.dumps({"prompt": text}) for text in ("def f(", "class A:", "import os")))
    return file


def tokens(engine: Path) -> list[int]:
    with LLM(engine) as llm:
        output = llm.generate("def f(", SamplingParams(max_tokens=16, temperature=0.8, seed=1))
        return output[0].outputs[0].token_ids


def arguments(own, prompts):
    return ["tune", own, "--prompts", prompts, "--max-tokens", 12, "--repeat", 1]


def test_the_quickest_is_kept(saguaro, own, prompts):
    before = tokens(own)
    result = saguaro(*arguments(own, prompts), "--json")
    assert result.exit_code == 0, result.output
    answer = json.loads(result.stdout)
    speeds = [one["measured"]["1"] for one in answer["verified"]]
    assert speeds == sorted(speeds, reverse=True)
    assert {one["mode"] for one in answer["verified"]} == {"ar", "sd", "ssd"}
    (ar,) = [one for one in answer["verified"] if one["mode"] == "ar"]
    assert ar["measured"] == ar["predicted"] == {"1": 1.0}  # the others' speeds are over its own
    assert ar["tokens_per_second"]["1"] > 0
    assert any(one["tree_nodes"] for one in answer["verified"])
    assert any(one["mode"] == "ssd" and not one["tree_nodes"] for one in answer["verified"])
    kept = open_engine_directory(own).speculation
    assert {name: kept[name] for name in answer["chosen"]} == answer["chosen"]
    assert all(answer["chosen"][name] == answer["verified"][0][name] for name in answer["chosen"])
    report = json.loads((own.parent / "engine.tuning.json").read_text())
    assert report["chosen"] == answer["chosen"]
    assert len(report["grid"]) > 6
    assert tokens(own) == before  # with other settings and statistics: the same tokens


def test_the_table(saguaro, own, prompts):
    result = saguaro(*arguments(own, prompts), "--report", own.parent / "other.json")
    assert result.exit_code == 0, result.output
    assert "predicted, measured over ar" in result.stdout
    assert "tokens/s" in result.stdout
    assert (own.parent / "other.json").is_file()


def test_an_interrupted_run_goes_on(saguaro, own, prompts, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Search, "_verify", interrupt)
        result = saguaro(*arguments(own, prompts))
    assert result.exit_code == 130
    recorded = json.loads((own.parent / "engine.tuning.json").read_text())["recordings"]
    runs, go = [], Run.go

    def counted(self: Run, group: slice):
        runs.append(self.settings)
        return go(self, group)

    monkeypatch.setattr(Run, "go", counted)
    monkeypatch.setattr("saguaro.tuner.tune.record", None)
    assert saguaro(*arguments(own, prompts)).exit_code == 0
    assert len(set(runs)) > 1
    assert {runs.count(one) for one in runs} <= {3, 6}  # the verification alone: three prompts, and to calibrate by
    runs.clear()
    assert saguaro(*arguments(own, prompts)).exit_code == 0
    assert runs == []
    assert json.loads((own.parent / "engine.tuning.json").read_text())["recordings"] == recorded


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--batch", "1,9"], ["batch is 9", "1 to 1 sequences", "--max-batch-size 9"]),
        (["--batch", "1,x"], ["--batch is '1,x'", "1,2,4"]),
        (["--report", "/no/such/place.json"], ["/no/such", "no such directory"]),
    ],
)
def test_bad_input(refused, own, prompts, options, parts):
    refused(parts, *arguments(own, prompts), *options)


def test_bad_prompts_and_reports(refused, own, prompts):
    prompts.write_text('{"prompt": "a"}\n{"promt": "b"}\n')
    refused(["prompts.jsonl, line 2"], *arguments(own, prompts))
    prompts.write_text(json.dumps({"prompt": "a " * 5000}))
    refused(["prompts.jsonl, line 1", "4096"], *arguments(own, prompts))
    prompts.write_text('{"prompt": "a"}\n')
    other = own.parent / "notes.json"
    other.write_text("mine")
    refused(["notes.json", "no tuning report"], *arguments(own, prompts), "--report", other)
    assert other.read_text() == "mine"
