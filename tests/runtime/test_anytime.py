"""Anytime drafting (design 3.6): the target takes what is prepared, and the tokens are the same however threads run."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from threading import local
from time import sleep
from typing import Any

import pytest
import torch

from saguaro import SamplingParams
from saguaro.runtime.auto import Auto
from saguaro.runtime.sessions.session import Step
from saguaro.runtime.sessions.torch_session import TorchSession
from saguaro.runtime.speculation.adaptive import AdaptivePolicy
from saguaro.runtime.speculative_rounds import ConcurrentLoop
from saguaro.runtime.worker import Job, Worker
from tests.runtime.engines import Engines, random_prompts, token_ids
from tests.support.checkpoints import ARCHITECTURES

AS_SHIPPED = AdaptivePolicy.worth, Auto.next_plan, Auto.pick
SCHEDULES = range(51)  # by three fallbacks and trees, and two temperatures: 408
LONGEST = 0.0008  # seconds, as long as a forward of these models


@pytest.fixture(autouse=True)
def anytime(patient: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ConcurrentLoop, "anytime", True)
    for (owner, name), value in zip(
        ((AdaptivePolicy, "worth"), (Auto, "next_plan"), (Auto, "pick")), AS_SHIPPED, strict=True
    ):
        monkeypatch.setattr(owner, name, value)


def perturbed(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """Forwards of either model end, and jobs begin and are handed over, after waits that are random for each thread."""
    forward, submit, threads = TorchSession.forward, Worker.submit, local()

    def wait(name: str) -> None:
        if not hasattr(threads, "rng"):
            threads.rng = random.Random(f"{seed} {name}")
        sleep(threads.rng.choice((0.0, 0.0, threads.rng.random() * LONGEST)))

    def slow(session: TorchSession, step: Step) -> torch.Tensor:
        logits = forward(session, step)
        wait("forward")
        return logits

    def hesitant(worker: Worker, function: Callable[..., Any], *arguments: Any) -> Job[Any]:
        def late() -> Any:
            wait("job")
            return function(*arguments)

        wait("submit")
        return submit(worker, late)

    monkeypatch.setattr(TorchSession, "forward", slow)
    monkeypatch.setattr(Worker, "submit", hesitant)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize(("fallback", "tree_nodes"), [("draft", 0), ("ngram", 0), ("auto", 0), ("draft", 9)])
def test_same_tokens_under_perturbed_schedules(
    engines: Engines, monkeypatch: pytest.MonkeyPatch, fallback: str, tree_nodes: int, temperature: float
) -> None:
    """Batches of up to 8 sequences, which enter and leave at different times; three schedules for each request."""
    llm = engines.llm(fallback=fallback, lookahead=3, budget=6, max_batch_size=8, tree_nodes=tree_nodes)
    prompts = [prompt * 2 for prompt in random_prompts(24, most=8)]  # twice, so that there is something to look up
    params = [SamplingParams(max_tokens=12, temperature=temperature, seed=i, ignore_eos=True) for i in range(24)]
    expected = token_ids(llm.generate(prompts, params, mode="ar"))
    drafted: dict[int, set[tuple[int, int]]] = {}
    for seed in SCHEDULES:
        rng = random.Random(seed // 3)
        chosen = rng.sample(range(24), rng.randint(1, 12))
        lengths = [rng.randint(1, 12) for _ in chosen]
        asked = [replace(params[i], max_tokens=length) for i, length in zip(chosen, lengths, strict=True)]
        with monkeypatch.context() as patch:
            perturbed(patch, seed)
            outputs = llm.generate([prompts[i] for i in chosen], asked, mode=rng.choice(("sd", "ssd", "ssd")))
        for i, length, tokens in zip(chosen, lengths, token_ids(outputs), strict=True):
            assert tokens == expected[i][:length], f"schedule {seed}, prompt {i}"
        counts = sum(o.metrics.drafted for o in outputs), sum(o.metrics.hits for o in outputs)
        drafted.setdefault(seed // 3, set()).add(counts)
    assert sum(len(seen) > 1 for seen in drafted.values()) > 1  # the schedules really differed in what was prepared


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
