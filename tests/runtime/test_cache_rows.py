"""After every verification the target's KV rows are those of a serial AR run (the bug of vLLM #9730)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import saguaro
from saguaro import LLM, SamplingParams
from saguaro.runtime.sequence import Sequence
from saguaro.runtime.sessions.torch_session import TorchSession
from saguaro.runtime.speculation import Outcome
from saguaro.runtime.verifier import Verifier
from tests.runtime.engines import Engines, random_prompts

PROMPTS = random_prompts(5, most=30, seed=11)
PARAMS = [
    SamplingParams(max_tokens=8 + 6 * i, temperature=0.8 * (i % 2), seed=i, ignore_eos=True) for i in range(5)
]


class Watch:
    """Copies of each sequence's verified KV rows after each verification; sequences go by their seeds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.sessions: dict[str, TorchSession] = {}
        self.rows: dict[int, list[torch.Tensor]] = {}
        load, verify = saguaro.llm.load_session, Verifier.verify

        def load_session(directory: Path, role: str, *rest: object) -> object:
            self.sessions[role] = load(directory, role, *rest)  # type: ignore[arg-type,assignment]
            return self.sessions[role]

        def watched(
            verifier: Verifier, sequences: list[Sequence], meanwhile: Callable[[], None] | None = None
        ) -> list[Outcome]:
            outcomes = verify(verifier, sequences, meanwhile)
            for slot, (sequence, outcome) in enumerate(zip(sequences, outcomes, strict=True)):
                rows = sequence.prefix + 1 + len(sequence.speculation.path(outcome.node))
                kept = self.sessions["target"].cache[:, slot, :, :rows].clone()
                self.rows.setdefault(sequence.seed, []).append(kept)
            return outcomes

        monkeypatch.setattr(saguaro.llm, "load_session", load_session)
        monkeypatch.setattr(Verifier, "verify", watched)

    def take(self) -> dict[int, list[torch.Tensor]]:
        rows, self.rows = self.rows, {}
        return rows


@pytest.mark.parametrize("tree_nodes", [0, 12])
@pytest.mark.parametrize("mode", ["sd", "ssd"])
@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "Qwen3ForCausalLM"])
def test_verified_rows_are_the_serial_ones(
    engines: Engines, monkeypatch: pytest.MonkeyPatch, architecture: str, mode: str, tree_nodes: int
) -> None:
    """Five sequences over two slots, so that slots are refilled and moved too."""
    directory = engines.llm(engines.target(architecture), max_batch_size=2, tree_nodes=tree_nodes).directory
    watch = Watch(monkeypatch)
    with LLM(directory) as llm:
        llm.generate(PROMPTS, PARAMS, mode="ar")
        serial = watch.take()
        llm.generate(PROMPTS, PARAMS, mode=mode)
        speculative = watch.take()
    assert len(serial) == len(speculative) == 5
    steps = 0
    for seed, rounds in speculative.items():
        whole = serial[seed][-1]
        for rows in rounds:
            count = min(rows.shape[2], whole.shape[2])  # the last round may verify beyond max_tokens
            assert torch.allclose(rows[:, :, :count], whole[:, :, :count], atol=1e-4, rtol=0)
            steps += 1
    assert steps < sum(len(rounds) for rounds in serial.values())  # some rounds verified several tokens


@pytest.mark.parametrize("tree_nodes", [0, 12])
@pytest.mark.parametrize("mode", ["sd", "ssd"])
def test_the_drafts_rows_are_the_drafts_own(
    engines: Engines, monkeypatch: pytest.MonkeyPatch, mode: str, tree_nodes: int
) -> None:
    """The draft's rows of the verified prefix equal those that it computes for the same tokens in one go.

    A wrong row there changes no output, only the rate of acceptance, so nothing else would notice.
    """
    directory = engines.llm(tree_nodes=tree_nodes).directory
    prompt, asked = PROMPTS[0], SamplingParams(max_tokens=40, temperature=0.8, seed=9, ignore_eos=True)
    watch = Watch(monkeypatch)
    with LLM(directory) as llm:
        tokens = prompt + llm.generate(prompt, asked, mode=mode)[0].outputs[0].token_ids
        count = len(tokens) - llm.manifest.speculation["lookahead"] - 2  # the last round may not be settled
        after = watch.sessions["draft"].cache[:, 0, :, :count].clone()
        list(llm.stream(tokens[: count + 1], SamplingParams(max_tokens=1, temperature=0), mode=mode))
        again = watch.sessions["draft"].cache[:, 0, :, :count].clone()
    assert torch.allclose(after, again, atol=1e-4, rtol=0)
