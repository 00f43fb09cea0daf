"""The ahead-of-time compiled engine: the same numbers as the plain module, the same tokens in every mode."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from saguaro import LLM, SamplingParams, build
from saguaro.builder.torch_engine import can_compile
from saguaro.engine.directory import MANIFEST, open_engine_directory
from saguaro.engine.manifest import digest
from saguaro.errors import EngineError
from saguaro.runtime.load import load_session
from saguaro.runtime.rounds import ConcurrentLoop
from saguaro.runtime.sessions.session import Session, Step
from tests.support.checkpoints import make_checkpoint, noisy_copy

pytestmark = pytest.mark.skipif(not can_compile(), reason="there is no C++ compiler")
PROMPTS = [f"def function_{i}(value):" for i in range(20)]


@pytest.fixture(scope="module", params=["fp32", "bf16"])
def engines(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, str]:
    """The same pair compiled and as it is, and its precision. Qwen3: the architecture with the most operations."""
    home = tmp_path_factory.mktemp("compiled")
    target = make_checkpoint(home / "target", "Qwen3ForCausalLM")
    draft = noisy_copy(target, home / "draft", 0.1)
    built = [
        build(
            target=str(target), draft=str(draft), output=home / str(eager), enforce_eager=eager,
            precision=request.param, max_seq_len=256, max_batch_size=2, lookahead=4, budget=8,
        )
        for eager in (False, True)
    ]  # fmt: skip
    return built[0], built[1], request.param


def target(engine: Path) -> Session:
    return load_session(engine, "target", open_engine_directory(engine), None)


def causal(tokens: list[int], row: int) -> Step:
    size = len(tokens)
    visible = torch.ones(size, size, dtype=torch.bool).tril().unsqueeze(0)
    return Step(torch.tensor([tokens]), torch.arange(row, row + size).unsqueeze(0), [row], visible, [row])


def test_numbers(engines: tuple[Path, Path, str]) -> None:
    compiled, plain, precision = engines
    with torch.inference_mode():
        ours, reference = target(compiled), target(plain)
        for tokens, row in (([5, 6, 7, 8, 9, 10, 11], 0), ([12], 7), ([13, 14, 15], 8)):
            ours_logits, expected = ours.forward(causal(tokens, row)), reference.forward(causal(tokens, row))
            scale = float(expected.abs().max())
            error = float((ours_logits - expected).abs().max())
            assert error < (1e-4 if precision == "fp32" else 0.05 * scale)


def test_same_tokens_and_same_proposals_in_every_mode(
    engines: tuple[Path, Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cached speculation is what drafting just in time would have proposed: so SD and SSD take equal rounds."""
    compiled, _, precision = engines
    if precision != "fp32":
        pytest.skip("in bf16 near ties may fall either way")  # design 3.2
    monkeypatch.setattr(ConcurrentLoop, "anytime", False)
    for temperature in (0.0, 0.8):
        params = SamplingParams(max_tokens=64, temperature=temperature, seed=5, ignore_eos=True)
        with LLM(compiled) as llm:
            runs = {mode: llm.generate(PROMPTS, params, mode) for mode in ("ar", "sd", "ssd")}
        tokens = {mode: [o.outputs[0].token_ids for o in outputs] for mode, outputs in runs.items()}
        assert tokens["ar"] == tokens["sd"] == tokens["ssd"]
        rounds = {mode: [o.metrics.rounds for o in outputs] for mode, outputs in runs.items()}
        assert rounds["sd"] == rounds["ssd"]
        assert sum(rounds["sd"]) < sum(rounds["ar"])
        assert sum(o.metrics.hits for o in runs["ssd"]) > 0


def test_a_library_for_another_machine_is_refused(engines: tuple[Path, Path, str]) -> None:
    compiled, _, _ = engines
    file = compiled / MANIFEST
    original = file.read_text()
    values = json.loads(original)
    values["built_with"]["cpu_capability"] = "ANOTHER"
    values["sha256"] = digest(values)
    file.write_text(json.dumps(values))
    try:
        with pytest.raises(EngineError, match="ANOTHER"):
            LLM(compiled)
    finally:
        file.write_text(original)
