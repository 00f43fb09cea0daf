"""The torch backend on a CUDA device: graphs, two streams, and the same tokens in all three modes.

All in fp32 without TF32: two kernels may round a logit differently, but hardly ever so that a token turns.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
import torch

from saguaro import LLM, SamplingParams, build
from saguaro.builder.checkpoint import open_checkpoint
from saguaro.builder.fused_weights import fused_weights
from saguaro.builder.progress import silent
from saguaro.cli.prompt_input import read_prompts
from saguaro.runtime.sessions.cuda_session import CudaSession
from saguaro.runtime.sessions.session import Step
from saguaro.runtime.sessions.torch_session import TorchSession, eager_forward
from saguaro.runtime.speculation import Speculation
from saguaro.runtime.verifier import Verifier
from saguaro.runtime.worker import Worker
from tests.runtime.engines import random_prompts, same_in_all_modes, total
from tests.runtime.scripted import sequence
from tests.support.checkpoints import make_checkpoint, noisy_copy

DEMO = Path(__file__).parents[2] / "examples/demo"
ROWS, SLOTS = 512, 3
K, B = 5, 24


@pytest.fixture(autouse=True)
def without_tf32() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gpu")


@pytest.fixture(scope="module", params=["LlamaForCausalLM", "Qwen3ForCausalLM", "demo"])
def llm(request: pytest.FixtureRequest, folder: Path) -> Iterator[LLM]:
    name = request.param
    target, draft = DEMO / "target", DEMO / "draft"
    if name != "demo":
        target = make_checkpoint(folder / name, name)
        draft = noisy_copy(target, folder / f"{name}-draft", 0.03)
    engine = build(
        target=str(target), draft=str(draft), output=folder / f"{name}-engine", backend="torch",
        precision="fp32", max_batch_size=4, max_seq_len=ROWS, lookahead=K, budget=B, enforce_eager=True,
    )  # fmt: skip
    with LLM(engine) as loaded:
        yield loaded


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_three_modes_give_the_same_tokens_on_two_streams(llm: LLM, temperature: float) -> None:
    """Four sequences at a time, so that batches shrink, slots move and shapes are captured on the way."""
    prompts: list[Any] = random_prompts(10)
    if llm.manifest.target.source == str(DEMO / "target"):
        prompts = [
            llm.tokenizer.encode(str(line.prompt)) for line in read_prompts(DEMO / "prompts.jsonl")[:10]
        ]
    params = [
        SamplingParams(max_tokens=48, temperature=temperature, seed=i, ignore_eos=True)
        for i in range(len(prompts))
    ]
    outputs = same_in_all_modes(llm, prompts, params)
    assert total(outputs["sd"]).accepted > 20
    assert total(outputs["ssd"]).hits > 10
    assert llm.last_run.overlap > 0  # ssd ran last: the draft worked while the target verified
    for model in (llm.pair.target, llm.pair.draft):
        assert model is not None
        session = model.session._session
        assert isinstance(session, CudaSession)
        assert session.captured_shapes
        assert session._capture, "a capture failed"


def step(tokens: int, prefix: list[int], device: str, before: int = 0) -> Step:
    """A chain of `tokens`, or after `before` rows branches that see half of these and themselves."""
    torch.manual_seed(tokens * 1000 + prefix[0])
    count = len(prefix)
    ids = torch.randint(1, 320, (count, tokens))
    starts = torch.tensor(prefix).unsqueeze(1)
    own = torch.eye(tokens, dtype=torch.bool) if before else torch.ones(tokens, tokens).tril().bool()
    seen = (torch.arange(before) < before // 2).expand(tokens, -1)
    visible = torch.cat([seen, own], -1).expand(count, -1, -1)
    positions = starts + before // 2 + (0 if before else torch.arange(tokens))
    return Step(
        ids.to(device), positions.expand(count, tokens).to(device), prefix, visible.to(device),
        [rows + before for rows in prefix],
    )  # fmt: skip


def sessions(path: Path) -> tuple[CudaSession, CudaSession, TorchSession]:
    """With graphs, without, and on the CPU with dense masks."""
    checkpoint = open_checkpoint(str(path))
    config = checkpoint.config
    weights = fused_weights(config, checkpoint.tensors, torch.float32, silent, "test")
    limits: Any = {"dtype": torch.float32, "max_batch_size": SLOTS, "rows": ROWS}
    on_cpu = TorchSession(eager_forward(config, weights, ROWS), config, device=torch.device("cpu"), **limits)
    there = {name: tensor.cuda() for name, tensor in weights.items()}
    device = torch.device("cuda", torch.cuda.current_device())
    graphs, plain = (CudaSession(config, there, device=device, capture=c, **limits) for c in (True, False))
    return graphs, plain, on_cpu


@pytest.fixture(scope="module")
def qwen3(folder: Path) -> Path:
    return make_checkpoint(folder / "qwen3", "Qwen3ForCausalLM", initializer_range=0.1)


@pytest.mark.parametrize("own_stream", [True, False])
def test_captured_logits_are_the_uncaptured_ones(qwen3: Path, own_stream: bool) -> None:
    """Shapes in turn, each with several prefixes; all logits are kept and compared at the end."""
    stream = torch.cuda.Stream() if own_stream else torch.cuda.current_stream()
    with torch.inference_mode(), torch.cuda.stream(stream):
        graphs, plain, on_cpu = sessions(qwen3)
        kept = []
        for rows in range(0, 384, 128):
            for session, device in ((graphs, "cuda"), (plain, "cuda"), (on_cpu, "cpu")):
                session.forward(step(128, [rows] * 2, device))
        for turn in range(4):
            prefix = [200 + 7 * turn, 150 + turn]
            for tokens, before in ((1, 0), (K + 1, 0), (B, K + 1), (B, K + 1 + B)):
                kept.append(
                    [
                        session.forward(step(tokens, prefix, device, before))
                        for session, device in ((graphs, "cuda"), (plain, "cuda"), (on_cpu, "cpu"))
                    ]
                )
        torch.cuda.synchronize()
        for captured, uncaptured, dense in kept:
            torch.testing.assert_close(captured, uncaptured, rtol=1e-5, atol=1e-5)
            torch.testing.assert_close(captured.cpu(), dense, rtol=2e-4, atol=2e-4)
        assert graphs._capture, "a capture failed"
        assert len(graphs.captured_shapes) == 4
        assert not plain.captured_shapes
        torch.testing.assert_close(graphs.cache, plain.cache, rtol=1e-5, atol=1e-5)


def test_a_step_and_a_move_do_not_wait_for_the_device(qwen3: Path) -> None:
    with torch.inference_mode():
        graphs, _, _ = sessions(qwen3)
        again = step(K + 1, [40], "cuda")
        for _ in range(4):
            graphs.forward(again)
            graphs.move_rows(0, [42, 45, 47], 41)
        torch.cuda.set_sync_debug_mode("error")
        try:
            graphs.forward(again)
            graphs.move_rows(0, [42, 45, 47], 41)
            graphs.move_rows(0, [3, 4], 41)
            graphs.move_slot(1, 0)
        finally:
            torch.cuda.set_sync_debug_mode("default")


def verified(session: CudaSession, layouts: list[tuple[int, ...]]) -> Iterator[list[str]]:
    """Trees of these parents verified in turn; of each, how often torch says that the host waited for the device."""
    verifier, prompt = Verifier(session, 128), sequence([5, 6, 7, 8], 60)
    prompt.slot = 0
    verifier.prefill(prompt)
    for layout in layouts:
        prompt.speculation = Speculation(tuple(range(9, 9 + len(layout))), layout)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                (outcome,) = verifier.verify([prompt])
            finally:
                torch.cuda.set_sync_debug_mode("default")
        prompt.accept(outcome)
        yield [str(warning.message) for warning in caught if "synchroniz" in str(warning.message)]


def test_a_verification_waits_for_its_outcome_alone(qwen3: Path) -> None:
    """Every round's tree is another, as they are when speculations are trees."""
    with torch.inference_mode():
        graphs, _, _ = sessions(qwen3)
        seen = list(verified(graphs, list(product((0,), (0, 1), (0, 1, 2), (0, 1)))))
        assert [len(waits) for waits in seen[4:]] == [1] * (len(seen) - 4)  # after kernels and graphs are made


def test_moved_rows_are_those_of_the_cpu(qwen3: Path) -> None:
    with torch.inference_mode():
        graphs, _, on_cpu = sessions(qwen3)
        on_cpu.cache.copy_(torch.randn_like(on_cpu.cache))
        graphs.cache[..., : graphs.head_dim].copy_(on_cpu.cache)
        for sources, target in (([5, 8, 11], 5), ([9, 2], 4), ([7, 6, 9], 6), ([100, 131, 162], 41)):
            for session in (graphs, on_cpu):
                session.move_rows(1, sources, target)
        assert torch.equal(graphs.cache[..., : graphs.head_dim].cpu(), on_cpu.cache)


def test_two_streams_overlap() -> None:
    """Bursts of captured steps of the demo target on two workers' streams, side by side and alone."""
    device = torch.device("cuda", torch.cuda.current_device())
    workers = [Worker(f"overlap-{i}", device, 1) for i in range(2)]
    loaded = [worker.run(lambda: sessions(DEMO / "target")[0]) for worker in workers]
    origin = torch.cuda.Event(enable_timing=True)
    origin.record()

    def burst(session: CudaSession, ready: Barrier) -> tuple[float, float]:
        """When the device began and ended it, in milliseconds after the origin."""
        one = step(K + 1, [100], "cuda")
        for _ in range(5):
            session.forward(one)
        torch.cuda.current_stream().synchronize()
        begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        ready.wait(60)
        begin.record()
        for _ in range(100):
            session.forward(one)
        end.record()
        end.synchronize()
        return origin.elapsed_time(begin), origin.elapsed_time(end)

    try:
        pairs = list(zip(workers, loaded, strict=True))
        alone = [worker.run(burst, session, Barrier(1)) for worker, session in pairs]
        together = Barrier(2)
        jobs = [worker.submit(burst, session, together) for worker, session in pairs]
        (b0, e0), (b1, e1) = (job.result() for job in jobs)
    finally:
        for worker in workers:
            worker.close()
    shared = min(e0, e1) - max(b0, b1)
    assert shared > 0.5 * min(e0 - b0, e1 - b1)
    assert max(e0, e1) - min(b0, b1) < 0.85 * sum(end - begin for begin, end in alone)
