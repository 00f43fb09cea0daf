"""The same tokens in all modes where speculation goes as badly, or as well, as it can."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from saguaro import LLM, SamplingParams
from tests.runtime.engines import Engines, random_prompts, same_in_all_modes, token_ids, total
from tests.support.checkpoints import tokenizer

PROMPTS = random_prompts(6, most=20, seed=3)
BOTH = [
    SamplingParams(max_tokens=24, temperature=0.8 * (i % 2), seed=i, ignore_eos=True)
    for i in range(len(PROMPTS))
]


def changed(source: Path, path: Path, change: Callable[[torch.nn.Module], None]) -> Path:
    model = AutoModelForCausalLM.from_pretrained(source)
    with torch.no_grad():
        change(model)
    model.save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


def test_a_draft_that_is_always_wrong(engines: Engines, tmp_path: Path) -> None:
    """Its logits are the target's, negated."""
    target = engines.target()
    draft = changed(target, tmp_path / "wrong", lambda model: model.lm_head.weight.neg_())  # type: ignore[union-attr,operator]
    outputs = same_in_all_modes(engines.llm(target, draft), PROMPTS, BOTH)
    for mode in ("sd", "ssd"):
        assert total(outputs[mode]).acceptance_rate < 0.02  # at T = 0.8 the shared noise alone may decide
        metrics = total(outputs[mode][::2])
        assert metrics.accepted == 0
        assert metrics.rounds == metrics.output_tokens == metrics.histogram[0]


def test_the_target_as_its_own_draft(engines: Engines) -> None:
    """Everything is accepted, and the draft knows most outcomes."""
    llm = engines.llm(engines.target(), engines.target())
    outputs = same_in_all_modes(llm, PROMPTS, BOTH)
    for mode in ("sd", "ssd"):
        metrics = total(outputs[mode])
        assert metrics.rounds == len(PROMPTS) * 4  # 24 tokens, six a round
        assert metrics.tokens_per_round == 6
    assert total(outputs["ssd"]).hit_rate > 0.7


@pytest.mark.parametrize(
    "options",
    [{"lookahead": 1}, {"budget": 1}, {"lookahead": 1, "budget": 1}, {"lookahead": 12, "budget": 3}],
    ids=str,
)
def test_small_and_large_settings(engines: Engines, options: dict[str, int]) -> None:
    outputs = same_in_all_modes(engines.llm(**options), PROMPTS, BOTH)
    assert 0 < total(outputs["ssd"]).acceptance_rate < 1


def test_a_budget_beyond_the_vocabulary(engines: Engines) -> None:
    llm = engines.llm(lookahead=1, budget=700, max_batch_size=2)
    same_in_all_modes(llm, PROMPTS[:2], SamplingParams(max_tokens=4, temperature=0, ignore_eos=True))


def test_a_prompt_of_one_token_beside_one_of_several_chunks(engines: Engines) -> None:
    """128 tokens are one chunk, so 129 are the first prompt whose last token but one ends a chunk."""
    llm = engines.llm(max_seq_len=320)
    assert llm.manifest.chunk == 128
    long = random_prompts(1, most=300, least=300)[0]
    prompts = [[7], long, long[:128], long[:129], long[:130], long[:257]]
    same_in_all_modes(llm, prompts, SamplingParams(max_tokens=12, temperature=0.8, seed=5, ignore_eos=True))
    model = AutoModelForCausalLM.from_pretrained(engines.target())
    ours = token_ids(llm.generate(prompts, SamplingParams(max_tokens=1, temperature=0), mode="ssd"))
    for prompt, tokens in zip(prompts, ours, strict=True):
        assert tokens == [int(model(torch.tensor([prompt])).logits[0, -1].argmax())]


@pytest.mark.parametrize("draft", ["noisy", "target"])
def test_a_sequence_that_ends_exactly_at_the_limit(engines: Engines, draft: str) -> None:
    target = engines.target()
    llm = engines.llm(target, target if draft == "target" else None, max_seq_len=48, max_batch_size=2)
    prompts = [random_prompts(1, most=size, least=size)[0] for size in (40, 47, 1, 20)]
    params = [
        SamplingParams(max_tokens=48 - len(p), temperature=0.8, seed=i, ignore_eos=True)
        for i, p in enumerate(prompts)
    ]
    for output in same_in_all_modes(llm, prompts, params)["ssd"]:
        assert len(output.prompt_token_ids) + len(output.outputs[0].token_ids) == 48
        assert output.outputs[0].finish_reason == "length"


def test_max_tokens_of_one(engines: Engines) -> None:
    outputs = same_in_all_modes(engines.llm(), PROMPTS, SamplingParams(max_tokens=1, temperature=0.8, seed=1))
    for output in outputs["ssd"]:
        assert len(output.outputs[0].token_ids) == output.metrics.rounds == 1


@pytest.fixture(params=["draft", "target"])
def padded(request: pytest.FixtureRequest, engines: Engines, tmp_path: Path) -> LLM:
    """A pair in which one side has 16 padding rows more; they are random, so they are sampled too."""
    larger = engines.target(vocab_size=336)
    draft = engines.draft(larger)
    if request.param == "target":
        draft = changed(draft, tmp_path / "draft", lambda model: model.resize_token_embeddings(320))  # type: ignore[operator]
        return engines.llm(larger, draft)
    target = changed(larger, tmp_path / "target", lambda model: model.resize_token_embeddings(320))  # type: ignore[operator]
    return engines.llm(target, draft)


def test_vocabularies_that_differ_by_padding(padded: LLM) -> None:
    outputs = same_in_all_modes(padded, PROMPTS, BOTH)
    assert total(outputs["ssd"]).accepted > 0
    if padded.manifest.target.config["vocab_size"] == 336:  # tokens that the draft does not have were met
        assert max(token for tokens in token_ids(outputs["ar"]) for token in tokens) >= 320


def test_several_completions_of_a_prompt(engines: Engines) -> None:
    """Completion i is what seed + i gives alone."""
    llm = engines.llm()
    params = SamplingParams(max_tokens=16, temperature=0.8, seed=2**64 - 2, n=6, ignore_eos=True)
    for output in same_in_all_modes(llm, PROMPTS[:2], params)["ssd"]:
        assert [completion.index for completion in output.outputs] == list(range(6))
        assert len({tuple(completion.token_ids) for completion in output.outputs}) == 6
        for index, completion in enumerate(output.outputs):
            seed = (2**64 - 2 + index) % 2**64
            assert completion.metrics.seed == seed
            alone = SamplingParams(max_tokens=16, temperature=0.8, seed=seed, ignore_eos=True)
            assert (
                completion.token_ids == token_ids(llm.generate(output.prompt_token_ids, alone, mode="ar"))[0]
            )
