"""Log-probabilities are the model's own, at temperature 1 and before filters, in every mode."""

from __future__ import annotations

import pytest
import torch

from saguaro import SamplingParams
from tests.models.reference import transformers_model
from tests.runtime.engines import MODES, Engines, random_prompts

PROMPTS = random_prompts(3, seed=31, most=12)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("count", [0, 1, 4])
def test_against_transformers(engines: Engines, mode: str, count: int) -> None:
    """Also where an accepted draft runs beyond max_tokens, and for tokens that are not the likeliest."""
    asked = SamplingParams(max_tokens=17, temperature=1.2, top_k=30, seed=2, logprobs=count, ignore_eos=True)
    model, unlikely = transformers_model(engines.target()), 0
    for output in engines.llm().generate(PROMPTS, asked, mode=mode):
        tokens, logprobs = output.outputs[0].token_ids, output.outputs[0].logprobs
        assert logprobs is not None
        assert len(logprobs) == len(tokens) == 17
        with torch.inference_mode():
            whole = model(torch.tensor([[*output.prompt_token_ids, *tokens]])).logits[0]
        table = torch.log_softmax(whole[len(output.prompt_token_ids) - 1 : -1], dim=-1)
        for token, entry, row in zip(tokens, logprobs, table, strict=True):
            assert set(entry) == {token, *row.topk(count).indices.tolist()}
            unlikely += len(entry) > count > 0
            for other, value in entry.items():
                assert value == pytest.approx(float(row[other]), abs=1e-4)
    assert unlikely > 0 or count == 0


def test_a_stop_string_cuts_them_too(engines: Engines) -> None:
    llm = engines.llm(engines.target(), engines.target())
    free = SamplingParams(max_tokens=30, temperature=0, logprobs=2, ignore_eos=True)
    text = llm.generate(PROMPTS[0], free)[0].outputs[0].text
    stop = text[len(text) // 2 : len(text) // 2 + 2]
    for mode in MODES:
        asked = SamplingParams(max_tokens=30, temperature=0, logprobs=2, ignore_eos=True, stop=stop)
        cut = llm.generate(PROMPTS[0], asked, mode=mode)[0].outputs[0]
        assert cut.logprobs is not None
        assert 0 < len(cut.token_ids) == len(cut.logprobs) < 30


def test_none_unless_asked_for(engines: Engines) -> None:
    output = engines.llm().generate(PROMPTS[0], SamplingParams(max_tokens=2))[0].outputs[0]
    assert output.logprobs is None


def test_more_than_there_are_tokens(engines: Engines) -> None:
    output = (
        engines.llm()
        .generate(PROMPTS[0], SamplingParams(max_tokens=2, logprobs=1000), mode="ar")[0]
        .outputs[0]
    )
    assert output.logprobs is not None
    assert len(output.logprobs[0]) == 320
