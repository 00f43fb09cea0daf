"""Anytime drafting (design 3.6): the target takes what is prepared, and the tokens are the same however threads run."""

from __future__ import annotations

import random
from time import sleep
from typing import Any

import pytest
import torch

from saguaro import SamplingParams
from saguaro.runtime.rounds import ConcurrentLoop
from saguaro.runtime.sessions.session import Step
from saguaro.runtime.sessions.torch_session import TorchSession
from saguaro.runtime.speculation.adaptive import AdaptivePolicy
from tests.runtime.engines import Engines, random_prompts, token_ids
from tests.support.checkpoints import ARCHITECTURES

AS_SHIPPED = AdaptivePolicy.worth


@pytest.fixture(autouse=True)
def anytime(patient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ConcurrentLoop, "anytime", True)
    monkeypatch.setattr(AdaptivePolicy, "worth", AS_SHIPPED)


def perturbed(monkeypatch: pytest.MonkeyPatch, seed: int, longest: float) -> None:
    """Every forward of either model ends after a random wait."""
    rng, forward = random.Random(seed), TorchSession.forward

    def slow(session: TorchSession, step: Step) -> torch.Tensor:
        logits = forward(session, step)
        sleep(rng.choice((0.0, 0.0, rng.random() * longest)))
        return logits

    monkeypatch.setattr(TorchSession, "forward", slow)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_same_tokens_under_perturbed_schedules(
    engines: Engines, monkeypatch: pytest.MonkeyPatch, temperature: float
) -> None:
    llm = engines.llm(lookahead=3, budget=6)
    prompts = random_prompts(3, most=12)
    params = SamplingParams(max_tokens=12, temperature=temperature, seed=9, ignore_eos=True)
    expected = token_ids(llm.generate(prompts, params, mode="ar"))
    drafted: set[tuple[int, int]] = set()
    for seed in range(30):
        with monkeypatch.context() as patch:
            perturbed(patch, seed, 0.003)
            outputs = llm.generate(prompts, params, mode="ssd")
        assert token_ids(outputs) == expected, f"schedule {seed}"
        drafted.add((sum(o.metrics.drafted for o in outputs), sum(o.metrics.hits for o in outputs)))
    assert len(drafted) > 5  # the schedules really differed in what was prepared


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_every_architecture_as_it_is_served(engines: Engines, architecture: str, temperature: float) -> None:
    """20 prompts by 64 tokens in SSD's default mode, with no schedule forced on the threads."""
    llm = engines.llm(engines.target(architecture))
    prompts = random_prompts(20)
    params = SamplingParams(max_tokens=64, temperature=temperature, seed=5, ignore_eos=True)
    expected = token_ids(llm.generate(prompts, params, mode="ar"))
    assert token_ids(llm.generate(prompts, params, mode="ssd")) == expected


class SlowDraft:
    """Makes every draft step take at least `seconds`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, target: Any, seconds: float):
        forward = TorchSession.forward

        def slow(session: TorchSession, step: Step) -> torch.Tensor:
            logits = forward(session, step)
            if session is not target:
                sleep(seconds)
            return logits

        monkeypatch.setattr(TorchSession, "forward", slow)


def test_a_slow_draft_is_not_waited_for_on_a_hit(engines: Engines, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a draft far slower than the target, a round loses at most the one draft step that was under way."""
    llm = engines.llm(lookahead=4, budget=8)
    params = SamplingParams(max_tokens=24, temperature=0, ignore_eos=True)
    expected = token_ids(llm.generate([[5, 6, 7]], params, mode="ar"))
    SlowDraft(monkeypatch, llm.pair.target.session._session, 0.05)
    (output,) = llm.generate([[5, 6, 7]], params, mode="ssd")
    assert output.outputs[0].token_ids == expected[0]
    times = output.metrics.times
    waits = output.metrics.seconds - times.fallback - times.verification
    assert waits < 0.05 * (2 + output.metrics.rounds) + 0.5  # patient drafting would lose 5 steps in every round
