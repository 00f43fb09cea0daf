"""The fallback that looks continuations up: the same tokens in every mode, and text that repeats itself is foreseen."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import saguaro
from saguaro import LLM, SamplingParams
from saguaro.runtime.speculation import NgramIndex
from tests.runtime.engines import Engines, random_prompts, same_in_all_modes, total
from tests.runtime.scripted import scripted_loop, sequence


@pytest.fixture(scope="module")
def llm(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLM]:
    home: Path = tmp_path_factory.mktemp("ngram")
    target = engines.target()
    (home / "deployment.yaml").write_text(
        f"target: {{checkpoint: {target}}}\ndraft: {{checkpoint: {engines.draft(target)}}}\n"
        "build: {enforce_eager: true, max_batch_size: 3, max_seq_len: 256}\n"
        "speculation: {fallback: ngram, lookahead: 4, budget: 6}\n"
    )
    with LLM(saguaro.build(home / "deployment.yaml", output=home / "engine")) as llm:
        yield llm


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_same_tokens(llm: LLM, temperature: float) -> None:
    """Prompts that repeat themselves, one that does not, and one of a single token."""
    dice = torch.Generator().manual_seed(1)
    prompts = [torch.randint(1, 320, (period,), generator=dice).tolist() * 6 for period in (2, 3, 5, 7)]
    prompts += [*random_prompts(4, seed=5), [9]]
    params = [
        SamplingParams(max_tokens=20 + 5 * i, temperature=temperature, seed=i, ignore_eos=True)
        for i in range(len(prompts))
    ]
    outputs = same_in_all_modes(llm, prompts, params)
    for mode in ("sd", "ssd"):
        metrics = total(outputs[mode])
        assert 0 < metrics.fallbacks < metrics.rounds  # some rounds had nothing to look up
        assert metrics.times.fallback == 0.0  # nobody waited
    assert total(outputs["ssd"]).hits > 0


@pytest.mark.parametrize("mode", ["sd", "ssd"])
def test_a_loop_is_foreseen_without_the_draft(mode: str) -> None:
    """A text of period three, and a draft that is always wrong: every round accepts all that was looked up."""
    prompt = [7, 8, 9, 7, 8, 9]
    done = sequence(prompt, 40)
    done.ngrams = NgramIndex(prompt)
    with scripted_loop(mode, lambda path: [40], lookahead=4) as (loop, target, _):
        target.ranking = lambda path: [path[-3] if len(path) > 2 else 0]
        assert [len(tokens) for _, tokens in loop.run([done])] == [5] * 8
    assert done.generated == ([7, 8, 9] * 14)[:40]
    assert (done.metrics.drafted, done.metrics.accepted, done.metrics.fallbacks) == (32, 32, 8)
