"""Verification by rejection in all modes: at temperature 0 AR's tokens, else what the seed says, however it was
scheduled; caches as a serial run leaves them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

import saguaro
from saguaro import LLM, SamplingParams
from saguaro.errors import ConfigError
from saguaro.runtime.rejection_drafter import RejectionDrafter
from saguaro.runtime.rejection_verifier import RejectionVerifier
from saguaro.runtime.speculation import Speculation
from tests.models.reference import transformers_model
from tests.runtime.engines import Engines, random_prompts, same_in_all_modes, token_ids, total
from tests.runtime.rejection_engines import rejection_engine
from tests.runtime.scripted import ScriptedSession, sequence, target_ranking
from tests.runtime.test_cache_rows import Watch

PROMPTS = [*random_prompts(6, seed=5), [9], [4, 5, 6] * 5]
FILTERS: list[dict[str, float]] = [{}, {"top_p": 0.9}, {"top_k": 20}, {"min_p": 0.05}]


def params(temperatures: tuple[float, ...] = (0.8,), logprobs: int | None = None) -> list[SamplingParams]:
    """Of different lengths, so that sequences enter and leave a batch of three at different times."""
    return [
        SamplingParams(
            max_tokens=4 + 7 * (i % 4), temperature=temperatures[i % len(temperatures)], seed=i, ignore_eos=True,
            logprobs=logprobs, **FILTERS[i % 4],
        )  # type: ignore[arg-type]
        for i in range(len(PROMPTS))
    ]  # fmt: skip


@pytest.fixture(scope="module")
def llms(engines: Engines, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, LLM]]:
    home, target = tmp_path_factory.mktemp("rejection"), engines.target()
    made = {
        "draft": rejection_engine(target, engines.draft(target), home / "draft", budget=8),
        "ngram": rejection_engine(target, engines.draft(target), home / "ngram", fallback="ngram", budget=8),
        "short": rejection_engine(target, engines.draft(target), home / "short", lookahead=1, fan_out=[2, 3]),
        "geometric": rejection_engine(
            target, engines.draft(target), home / "geometric", fan_out="geometric", saguaro_c=0.5
        ),
    }
    yield made
    for llm in made.values():
        llm.close()


KINDS = ("draft", "ngram", "short", "geometric")


@pytest.mark.parametrize("kind", KINDS)
def test_greedy_is_ar(llms: dict[str, LLM], kind: str) -> None:
    same_in_all_modes(llms[kind], PROMPTS, params((0.0,)))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("mode", ["sd", "ssd"])
def test_greedy_beside_sampled_is_ar(llms: dict[str, LLM], kind: str, mode: str) -> None:
    """Then the greedy ones are verified by the rejection rule too."""
    asked = params((0.0, 1.0))
    outputs = {m: llms[kind].generate(PROMPTS, asked, mode=m) for m in ("ar", mode)}
    assert token_ids(outputs[mode])[::2] == token_ids(outputs["ar"])[::2]
    assert total(outputs[mode][::2]).drafted > 0
    assert token_ids(outputs[mode])[1::2] != token_ids(outputs["ar"])[1::2]  # the rules differ where it is sampled


@pytest.mark.parametrize("kind", ["draft", "short", "geometric"])
def test_sd_and_ssd_give_the_same_tokens(llms: dict[str, LLM], kind: str) -> None:
    """A prepared speculation is the one that would have been drafted just in time, hit or miss, alone or in a batch."""
    asked = params()
    outputs = {mode: llms[kind].generate(PROMPTS, asked, mode=mode) for mode in ("sd", "ssd")}
    assert token_ids(outputs["sd"]) == token_ids(outputs["ssd"])
    alone = [llms[kind].generate([p], one, mode="ssd")[0] for p, one in zip(PROMPTS, asked, strict=True)]
    assert token_ids(alone) == token_ids(outputs["ssd"])
    metrics = total(outputs["ssd"])
    assert metrics.hits > 0
    assert metrics.misses > 0
    assert 0.1 < metrics.acceptance_rate < 0.9


@pytest.mark.parametrize("mode", ["sd", "ssd"])
def test_a_seed_reproduces_what_was_looked_up(llms: dict[str, LLM], mode: str) -> None:
    """Also after other requests, and in another batch, although a miss changes what is proposed."""
    asked = params()
    first = llms["ngram"].generate(PROMPTS, asked, mode=mode)
    assert total(first).fallbacks > 0
    again = llms["ngram"].generate(PROMPTS[::-1], asked[::-1], mode=mode)[::-1]
    assert token_ids(first) == token_ids(again)


@pytest.mark.parametrize("public", [True, False])
def test_public_coins_change_no_token(llms: dict[str, LLM], monkeypatch: pytest.MonkeyPatch, public: bool) -> None:
    expected = token_ids(llms["draft"].generate(PROMPTS, params(), mode="sd"))
    monkeypatch.setattr(RejectionDrafter, "public_coins", public)
    assert token_ids(llms["draft"].generate(PROMPTS, params(), mode="ssd")) == expected


@pytest.mark.parametrize("mode", ["sd", "ssd"])
@pytest.mark.parametrize("kind", KINDS)
def test_caches_are_the_serial_ones(
    llms: dict[str, LLM], monkeypatch: pytest.MonkeyPatch, kind: str, mode: str
) -> None:
    """After every round the target's verified rows, and at the end the draft's, equal those of the tokens computed in
    one go; slots are refilled and moved meanwhile."""
    watch = Watch(monkeypatch)
    with LLM(llms[kind].directory) as llm:
        outputs, rounds = llm.generate(PROMPTS, params(), mode=mode), watch.take()
        for output in outputs:
            tokens = output.prompt_token_ids + output.outputs[0].token_ids
            llm.generate([tokens], SamplingParams(max_tokens=1, temperature=0, seed=99), mode="ar")
            (whole,) = watch.take()[99]
            for rows in rounds[output.metrics.seed or 0]:
                count = min(rows.shape[2], whole.shape[2])  # the last round may verify beyond max_tokens
                assert torch.allclose(rows[:, :, :count], whole[:, :, :count], atol=1e-4, rtol=0)
        alone = llm.generate([PROMPTS[0]], params()[3], mode=mode)[0]
        tokens = PROMPTS[0] + alone.outputs[0].token_ids
        count = len(tokens) - llm.manifest.speculation["lookahead"] - 2  # the last round may not be settled
        after = watch.sessions["draft"].cache[:, 0, :, :count].clone()
        llm.generate([tokens[: count + 1]], SamplingParams(max_tokens=1, temperature=0), mode=mode)
        again = watch.sessions["draft"].cache[:, 0, :, :count]
        assert kind == "ngram" or torch.allclose(after, again, atol=1e-4, rtol=0)  # looked up, the draft may lag behind


def test_logprobs_are_the_models(engines: Engines, llms: dict[str, LLM]) -> None:
    model = transformers_model(engines.target())
    for output in llms["draft"].generate(PROMPTS, params(logprobs=2), mode="ssd"):
        tokens, logprobs = output.outputs[0].token_ids, output.outputs[0].logprobs or []
        with torch.inference_mode():
            whole = model(torch.tensor([[*output.prompt_token_ids, *tokens]])).logits[0]
        table = torch.log_softmax(whole[len(output.prompt_token_ids) - 1 : -1], dim=-1)
        for token, entry, row in zip(tokens, logprobs, table, strict=True):
            assert set(entry) == {token, *row.topk(2).indices.tolist()}
            assert entry[token] == pytest.approx(float(row[token]), abs=1e-4)


def test_a_tree_is_refused() -> None:
    made = sequence([5, 6, 7], 5)
    made.slot, made.speculation = 0, Speculation((1, 2), (0, 0))
    verifier = RejectionVerifier(ScriptedSession(target_ranking, 40, 1), 2)
    verifier.prefill(made)
    with pytest.raises(ValueError, match="takes chains"):
        verifier.verify([made])


def test_the_build_takes_it_as_an_option(engines: Engines, tmp_path: Path) -> None:
    target = engines.target()
    pair = {"target": str(target), "draft": str(engines.draft(target)), "enforce_eager": True, "max_seq_len": 64}
    with LLM(saguaro.build(**pair, output=tmp_path / "engine", verification="rejection")) as llm:
        assert llm.manifest.speculation["verification"] == "rejection"
    with pytest.raises(ConfigError, match=r"verification is 'reject'.*did you mean 'rejection'"):
        saguaro.build(**pair, output=tmp_path / "other", verification="reject")
