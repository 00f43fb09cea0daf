"""AR, SD and SSD give the same tokens, token for token, at every temperature; and AR's are transformers'."""

from __future__ import annotations

import pytest
import torch
from transformers import AutoModelForCausalLM

from saguaro import SamplingParams
from tests.runtime.engines import Engines, random_prompts, same_in_all_modes, token_ids, total
from tests.support.checkpoints import ARCHITECTURES

PROMPTS = random_prompts(20)
FILTERS: list[dict[str, float]] = [
    {},
    {"top_p": 0.9},
    {"top_k": 20},
    {"min_p": 0.05},
    {"top_p": 0.95, "top_k": 50, "min_p": 0.02},
]


def sampled(max_tokens: int = 64, count: int = len(PROMPTS)) -> list[SamplingParams]:
    """At T = 0.8, each with a seed and filters of its own."""
    return [
        SamplingParams(
            max_tokens=max_tokens, temperature=0.8, seed=100 + i, ignore_eos=True, **FILTERS[i % 5]
        )  # type: ignore[arg-type]
        for i in range(count)
    ]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_three_modes_give_the_same_tokens(engines: Engines, architecture: str, temperature: float) -> None:
    """20 prompts by 64 tokens, four at a time; they end at different times where an end token comes."""
    llm = engines.llm(engines.target(architecture), budget=8)  # few enough that some outcomes are not foreseen
    params = sampled() if temperature else [SamplingParams(max_tokens=64, temperature=0)] * 20
    outputs = same_in_all_modes(llm, PROMPTS, params)
    assert len({tuple(tokens) for tokens in token_ids(outputs["ar"])}) == 20
    for mode in ("sd", "ssd"):  # the comparison means something: drafts were accepted and rejected
        assert 0.1 < total(outputs[mode]).acceptance_rate < 0.9
    hits = total(outputs["ssd"])
    assert hits.hits > 20
    assert hits.misses > 5
    assert total(outputs["sd"]).hits == 0


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_ar_is_transformers_greedy_generate(engines: Engines, architecture: str) -> None:
    path = engines.target(architecture)
    ours = token_ids(
        engines.llm(path).generate(PROMPTS, SamplingParams(max_tokens=64, temperature=0), mode="ar")
    )
    model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)
    for prompt, tokens in zip(PROMPTS, ours, strict=True):
        ids = torch.tensor([prompt])
        theirs = model.generate(
            ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=64, pad_token_id=0
        )
        assert tokens == theirs[0, len(prompt) :].tolist()


@pytest.mark.parametrize("mode", ["ar", "sd", "ssd"])
def test_a_batch_changes_no_sequence(engines: Engines, mode: str) -> None:
    """Prompts of different lengths that enter and leave at different times, against each one alone."""
    llm, count = engines.llm(), 9
    prompts = random_prompts(count, seed=7)
    params = [
        SamplingParams(max_tokens=3 + 7 * (i % 4), temperature=0.8 * (i % 2), seed=i, ignore_eos=True)
        for i in range(count)
    ]
    together = token_ids(llm.generate(prompts, params, mode=mode))
    alone = [token_ids(llm.generate([p], one, mode=mode))[0] for p, one in zip(prompts, params, strict=True)]
    assert together == alone
    backwards = token_ids(llm.generate(prompts[::-1], params[::-1], mode=mode))
    assert backwards[::-1] == together


def test_one_at_a_time(engines: Engines) -> None:
    llm = engines.llm(engines.target("Qwen3ForCausalLM"), max_batch_size=1)
    outputs = same_in_all_modes(llm, PROMPTS[:6], sampled(count=6))
    batched = engines.llm(engines.target("Qwen3ForCausalLM")).generate(
        PROMPTS[:6], sampled(count=6), mode="ssd"
    )
    assert token_ids(batched) == token_ids(outputs["ar"])


def test_the_seed_is_what_decides(engines: Engines) -> None:
    llm = engines.llm()
    prompt = PROMPTS[0]
    runs = [
        llm.generate(prompt, SamplingParams(max_tokens=24, seed=seed, ignore_eos=True), mode=mode)[0]
        for seed, mode in ((1, "ssd"), (1, "sd"), (2, "ssd"))
    ]
    first, again, other = token_ids(runs)
    assert first == again != other
    unseeded = llm.generate(prompt, SamplingParams(max_tokens=24, ignore_eos=True), mode="ssd")[0]
    told = unseeded.metrics.seed
    repeated = llm.generate(prompt, SamplingParams(max_tokens=24, seed=told, ignore_eos=True), mode="ar")[0]
    assert token_ids([unseeded]) == token_ids([repeated])
