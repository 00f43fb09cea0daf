"""The pair that ships: the same tokens in every mode, and transformers' own at temperature 0."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from saguaro import LLM, SamplingParams, build
from saguaro.runtime.speculative_rounds import ConcurrentLoop

DEMO = Path(__file__).parents[2] / "examples/demo"
CONFIG = Path(__file__).parents[2] / "configs/demo.yaml"
PROMPTS = [json.loads(line)["prompt"] for line in (DEMO / "prompts.jsonl").read_text().splitlines()][:20]
TOKENS = 64
CHAINS = {"lookahead": 5, "tree_nodes": 0}


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LLM]:
    """As `make demo` builds it, with room for more: compiled, where there is a compiler."""
    engine = build(CONFIG, output=tmp_path_factory.mktemp("demo") / "engine", lookahead=8, tree_nodes=16)
    with LLM(engine, speculation=CHAINS) as made:
        yield made


def tokens(llm: LLM, mode: str, temperature: float) -> list[list[int]]:
    params = SamplingParams(max_tokens=TOKENS, temperature=temperature, seed=11)
    return [output.outputs[0].token_ids for output in llm.generate(PROMPTS, params, mode)]


@pytest.mark.parametrize("anytime", [False, True])
@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_same_tokens_in_every_mode(
    llm: LLM, temperature: float, anytime: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ConcurrentLoop, "anytime", anytime)
    expected = tokens(llm, "ar", temperature)
    assert tokens(llm, "ssd", temperature) == expected
    if not anytime:
        assert tokens(llm, "sd", temperature) == expected


def test_greedy_tokens_are_those_of_transformers(llm: LLM) -> None:
    model = AutoModelForCausalLM.from_pretrained(DEMO / "target", dtype=torch.float32)
    for prompt, ours in zip(PROMPTS, tokens(llm, "ar", 0.0), strict=True):
        ids = torch.tensor([llm.tokenizer.encode(prompt)])
        with torch.inference_mode():
            whole = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=TOKENS, do_sample=False)
        assert ours == whole[0, ids.shape[1] :].tolist()


def test_the_draft_is_worth_its_while(llm: LLM) -> None:
    """Greedy acceptance of at least 0.6 a token on held-out prompts, and most outcomes foreseen."""
    outputs = llm.generate(PROMPTS, SamplingParams(max_tokens=TOKENS, temperature=0, ignore_eos=True), "ssd")
    tested = accepted = hits = rounds = 0
    for output in outputs:
        metrics = output.metrics
        accepted += metrics.accepted
        tested += metrics.accepted + sum(metrics.histogram[: len(metrics.drafted_at)])
        hits, rounds = hits + metrics.hits, rounds + metrics.rounds
    assert accepted / tested >= 0.6
    assert hits / rounds >= 0.6


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_tree_brings_more_tokens_than_a_chain(llm: LLM, temperature: float) -> None:
    """16 nodes against 5: at least a quarter more tokens a round, and the same tokens."""
    params = SamplingParams(max_tokens=TOKENS, temperature=temperature, seed=5, ignore_eos=True)
    outputs, rounds = {}, {}
    for shape, settings in (("chain", CHAINS), ("tree", {"lookahead": 8, "tree_nodes": 16})):
        llm.change(**settings, fallback="draft")
        done = llm.generate(PROMPTS, params, "sd")
        outputs[shape] = [output.outputs[0].token_ids for output in done]
        rounds[shape] = sum(output.metrics.rounds for output in done)
    llm.change(**CHAINS)
    assert outputs["tree"] == outputs["chain"]
    assert rounds["chain"] >= 1.25 * rounds["tree"]
