"""What the outcome policy learns: kept in the engine directory, gone on from, and never in the way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from saguaro import LLM, SamplingParams
from saguaro.errors import EngineError
from tests.runtime.engines import Engines, random_prompts, token_ids

PROMPTS = random_prompts(6, seed=5)
PARAMS = [SamplingParams(max_tokens=24, temperature=0.8 * (i % 2), seed=i) for i in range(6)]


@pytest.fixture
def engine(engines: Engines) -> Path:
    directory = engines.llm(max_batch_size=2, budget=9).directory
    (directory / "statistics.json").unlink(missing_ok=True)
    return directory


@pytest.mark.parametrize("fan_out", ["adaptive", "geometric"])
def test_kept_and_gone_on_from(engine: Path, fan_out: str) -> None:
    with LLM(engine, speculation={"fan_out": fan_out}) as llm:
        first = token_ids(llm.generate(PROMPTS, PARAMS, mode="ssd"))
        llm.save_statistics()
        learned = llm.pair.configuration.policies.statistics()
    with LLM(engine, speculation={"fan_out": fan_out, "budget": 4}) as llm:
        assert llm.pair.configuration.policies.statistics() == learned
        assert token_ids(llm.generate(PROMPTS, PARAMS, mode="ssd")) == first


def test_other_kinds_stay(engine: Path) -> None:
    for fan_out in ("adaptive", "uniform"):
        with LLM(engine, speculation={"fan_out": fan_out}) as llm:
            llm.save_statistics()
    kept = json.loads((engine / "statistics.json").read_text())
    assert {name: set(kinds) for name, kinds in kept.items()} == {
        "greedy": {"adaptive", "fixed"}, "sampled": {"adaptive", "fixed"},
    }  # fmt: skip


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", '{"greedy": 3}', '{"greedy": {"adaptive": []}}', '{"greedy": {"adaptive": {"likelihood": [[1]]}}}',
        '{"sampled": {"adaptive": {"likelihood": "x", "tested": 1, "accepted": 1}}}',
        '{"sampled": {"adaptive": {"likelihood": [[1], [2]], "tested": 2, "accepted": 1}}}',
        '{"sampled": {"adaptive": {"likelihood": [], "tested": 1, "accepted": 2}}}', '{"greedy": []}',
    ],
)  # fmt: skip
def test_a_damaged_file(engine: Path, text: str) -> None:
    (engine / "statistics.json").write_text(text)
    with pytest.raises(EngineError, match=r"statistics\.json: .*; remove it, and it is learned again") as caught:
        LLM(engine)
    assert "\n" not in str(caught.value)
    (engine / "statistics.json").unlink()


def test_a_changed_mode_is_the_mode_of_the_next_call(engine: Path) -> None:
    with LLM(engine, mode="ar") as llm:
        assert llm.generate(PROMPTS[0], PARAMS[0])[0].metrics.drafted == 0
        llm.change(budget=4)
        assert llm.generate(PROMPTS[0], PARAMS[0])[0].metrics.drafted == 0
        llm.change(mode="ssd", fallback="draft")
        assert llm.generate(PROMPTS[0], PARAMS[0])[0].metrics.drafted > 0
