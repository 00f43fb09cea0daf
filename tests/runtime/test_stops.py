"""Stop strings and stop tokens end every mode at the same token, wherever in a speculation they lie."""

from __future__ import annotations

import pytest

from saguaro import LLM, SamplingParams
from tests.runtime.engines import MODES, VOCABULARY, Engines, same_in_all_modes

PROMPT = [70, 71, 72, 73]
LONG = SamplingParams(max_tokens=40, temperature=0, ignore_eos=True)


@pytest.fixture(scope="module")
def sure(engines: Engines) -> LLM:
    """The target drafts for itself, so that every speculation is accepted whole: six tokens a round."""
    return engines.llm(engines.target(), engines.target())


def pieces(llm: LLM, tokens: list[int]) -> list[str]:
    """The text that each of the tokens adds."""
    texts = [
        str(llm.tokenizer.decode(tokens[: i + 1], clean_up_tokenization_spaces=False))
        for i in range(len(tokens))
    ]
    return [text[len(before) :] for before, text in zip(["", *texts], texts, strict=False)]


def params(
    stop: list[str] | None = None, stop_token_ids: list[int] | None = None, seed: int = 0
) -> SamplingParams:
    return SamplingParams(
        max_tokens=40,
        temperature=0.8,
        seed=seed,
        ignore_eos=True,
        stop=stop,
        stop_token_ids=stop_token_ids or [],
    )


def test_a_stop_string_that_ends_at_each_place_of_a_round(sure: LLM) -> None:
    """The strings straddle two tokens; the second lies at every place of an accepted draft in turn."""
    full = sure.generate(PROMPT, LONG, mode="ar")[0].outputs[0]
    parts = pieces(sure, full.token_ids)
    places = set()
    for end in range(1, 40):
        first, second = parts[end - 1], parts[end]
        if not (first.isascii() and second.isascii() and first and second):
            continue
        stop = first[-1] + second[0]
        before = full.text.index(stop)
        if before + 1 != len("".join(parts[:end])):
            continue  # the string was there earlier
        places.add(end % 6)
        asked = SamplingParams(max_tokens=40, temperature=0, ignore_eos=True, stop=["no such text", stop])
        for output in same_in_all_modes(sure, [PROMPT], asked).values():
            found = output[0].outputs[0]
            assert found.token_ids == full.token_ids[: end + 1]
            assert found.text == full.text[:before]
            assert found.finish_reason == "stop"
            assert output[0].metrics.output_tokens == end + 1
    assert len(places) >= 4


@pytest.mark.parametrize("drafted_by", ["target", "noisy copy"])
def test_stop_tokens(engines: Engines, drafted_by: str) -> None:
    llm = engines.llm(engines.target(), engines.target() if drafted_by == "target" else None)
    prompts = [[70 + i, 71, 72] for i in range(6)]
    free = [llm.generate(p, params(seed=i), mode="ar")[0].outputs[0].token_ids for i, p in enumerate(prompts)]
    stops = [tokens[5 + 3 * i] for i, tokens in enumerate(free)]
    asked = [params(stop_token_ids=[VOCABULARY + 5, stop], seed=i) for i, stop in enumerate(stops)]
    for output in same_in_all_modes(llm, prompts, asked).values():
        for one, tokens, stop in zip(output, free, stops, strict=True):
            assert one.outputs[0].token_ids == tokens[: tokens.index(stop) + 1]
            assert one.outputs[0].finish_reason == "stop"


def test_the_models_end_token(sure: LLM) -> None:
    """Token 0 ends a text, unless it is to be ignored; its own text, `<|end|>`, is no part of the text."""
    asked = [SamplingParams(max_tokens=30, temperature=8.0, seed=seed) for seed in range(40)]
    outputs = same_in_all_modes(sure, [PROMPT] * 40, asked)["ssd"]
    ended = [output.outputs[0] for output in outputs if output.outputs[0].finish_reason == "stop"]
    assert len(ended) >= 2
    for completion in ended:
        assert completion.token_ids.index(0) == len(completion.token_ids) - 1
        assert "<|end|>" not in completion.text
    again = SamplingParams(max_tokens=30, temperature=8.0, seed=ended[0].metrics.seed, ignore_eos=True)
    longer = sure.generate(PROMPT, again)[0]
    assert longer.outputs[0].token_ids[: len(ended[0].token_ids)] == ended[0].token_ids
    assert len(longer.outputs[0].token_ids) == 30


@pytest.mark.parametrize("mode", MODES)
def test_a_stream_says_what_generate_says(sure: LLM, mode: str) -> None:
    whole = sure.generate(PROMPT, LONG, mode="ar")[0].outputs[0]
    stop = whole.text[8:10]
    for asked in (LONG, SamplingParams(max_tokens=40, temperature=0, ignore_eos=True, stop=stop)):
        expected = sure.generate(PROMPT, asked, mode="ar")[0].outputs[0]
        chunks = list(sure.stream(PROMPT, asked, mode=mode))
        assert "".join(chunk.text for chunk in chunks) == expected.text
        assert [chunk.output is None for chunk in chunks] == [True] * (len(chunks) - 1) + [False]
        assert chunks[-1].output is not None
        assert chunks[-1].output.outputs[0].token_ids == expected.token_ids


def test_no_tokens_are_streamed_past_a_stop_string(sure: LLM) -> None:
    whole = sure.generate(PROMPT, LONG, mode="ar")[0].outputs[0]
    parts = pieces(sure, whole.token_ids)
    for stop in {part for part in parts if part.isascii() and part.strip()}:
        asked = SamplingParams(max_tokens=40, temperature=0, ignore_eos=True, stop=stop)
        chunks = list(sure.stream(PROMPT, asked, mode="ssd"))
        assert chunks[-1].output is not None
        assert [t for chunk in chunks for t in chunk.token_ids] == chunks[-1].output.outputs[0].token_ids
