"""Plans build without a GPU, with the contract's tensors, and stop cleanly when they should."""

from __future__ import annotations

import logging
import os
import signal
import time

import pytest
import torch

from saguaro.builder.tensorrt import build_plan
from saguaro.errors import ConfigError, SaguaroError
from saguaro.models.config import ModelConfig
from saguaro.models.weights import engine_weights
from tests.tensorrt.models import ROWS, Network

trt = pytest.importorskip("tensorrt_rtx")

CONFIG = ModelConfig(
    architecture="Qwen3ForCausalLM", vocab_size=320, hidden_size=64, intermediate_size=96, num_layers=2,
    num_heads=4, num_kv_heads=2, head_dim=16, rms_norm_eps=1e-6, rope_theta=1e6, rope_scaling=None,
    max_position_embeddings=512, tie_word_embeddings=True, attention_bias=True, attention_output_bias=True,
    mlp_bias=False, qk_norm=True,
)  # fmt: skip


def random_weight(name: str) -> torch.Tensor:
    """Some checkpoint tensor of `CONFIG`."""
    spec = next(spec for spec in engine_weights(CONFIG).values() if name in spec.parts)
    rows = spec.shape[0]
    if len(spec.parts) == 2:
        rows //= 2
    if len(spec.parts) == 3:
        rows = 64 if "q_proj" in name else 32
    return torch.randn(rows, *spec.shape[1:])


def build(write=lambda piece: None, **changes):
    values = {"precision": "bf16", "max_batch_size": 2, "max_step": 32, "rows": ROWS, **changes}
    build_plan(CONFIG, write, tensorrt=trt, **values)


def built(**changes) -> bytes:
    pieces: list[bytes] = []
    build(pieces.append, **changes)
    return b"".join(pieces)


@pytest.mark.parametrize("embedded", [False, True], ids=["external", "embedded"])
@pytest.mark.parametrize("capabilities", [[], ["8.0"], ["8.9"], ["12.0"], ["8.0", "8.9", "12.0"]], ids=str)
def test_plans_build(capabilities, embedded):
    plan = built(compute_capabilities=capabilities, load_weight=random_weight if embedded else None)
    assert b"past_value.1" in plan
    assert (b"weights.model.norm.weight" in plan) == (not embedded)


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
def test_other_precisions_build(precision):
    assert built(precision=precision, compute_capabilities=["8.9"])


@pytest.mark.parametrize("max_batch_size", [1, 3])
@pytest.mark.parametrize("max_step", [1, 16, 200])
def test_any_limits_build(max_step, max_batch_size):
    assert built(max_step=max_step, max_batch_size=max_batch_size, rows=256)


def test_embedded_weights_are_in_the_plan():
    """A plan with weights is larger by what they take: a vocabulary of 16 MB, which both ends share."""
    config = ModelConfig.from_dict({**CONFIG.to_dict(), "vocab_size": 131072})
    table = torch.randn(131072, 64)

    def weight(name: str) -> torch.Tensor:
        return table if name == "model.embed_tokens.weight" else random_weight(name)

    sizes = []
    for load_weight in (None, weight):
        pieces: list[bytes] = []
        build_plan(
            config, pieces.append, tensorrt=trt, precision="bf16", max_batch_size=1, max_step=8, rows=ROWS,
            load_weight=load_weight,
        )  # fmt: skip
        sizes.append(sum(map(len, pieces)))
    embedding = 131072 * 64 * 2
    assert 0.9 * embedding < sizes[1] - sizes[0] < 1.5 * embedding


def test_the_network_has_the_contracts_tensors():
    network = Network(trt, CONFIG, "bf16")
    step = {
        "input_ids": (trt.int64, (-1, -1)),
        "position_ids": (trt.int64, (-1, -1)),
        "attention_mask": (trt.bool, (-1, 1, -1, ROWS)),
        "write_index": (trt.int32, (-1,)),
    }
    cache = {f"past_{name}.{layer}" for name in ("key", "value") for layer in range(2)}
    weights = {f"weights.{name}": spec.shape for name, spec in engine_weights(CONFIG).items()}
    expected = {
        **step,
        **{name: (trt.bfloat16, (-1, 2, ROWS, 16)) for name in cache},
        **{name: (trt.bfloat16, shape) for name, shape in weights.items()},
    }
    assert {
        name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in network.inputs().items()
    } == expected
    outputs = {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in network.outputs().items()}
    presents = {name.replace("past", "present"): (trt.bfloat16, (-1, 2, ROWS, 16)) for name in cache}
    assert outputs == {"logits": (trt.float32, (-1, -1, 320)), **presents}


def test_embedded_weights_are_no_inputs_and_tied_ones_are_one_constant():
    network = Network(trt, CONFIG, "bf16", random_weight)
    assert not [name for name in network.inputs() if name.startswith("weights.")]
    assert [tuple(value.shape) for value in network.weights.constants].count((320, 64)) == 1


def test_a_weight_that_needs_no_change_is_not_copied():
    weights = {}

    def load_weight(name: str) -> torch.Tensor:
        return weights.setdefault(name, random_weight(name).to(torch.bfloat16))

    network = Network(trt, CONFIG, "bf16", load_weight)
    addresses = {value.data_ptr() for value in network.weights.constants}
    alone = {spec.parts[0] for spec in engine_weights(CONFIG).values() if len(spec.parts) == 1}
    assert {weights[name].data_ptr() for name in alone} <= addresses


def test_progress_counts_the_steps_of_each_phase():
    calls: list[tuple[str, int, int]] = []
    build(progress=lambda *call: calls.append(call))
    assert len({phase for phase, _, _ in calls}) > 3
    assert all(1 <= step <= steps for _, step, steps in calls)


def test_an_interrupt_stops_the_build():
    calls = []

    def progress(phase: str, step: int, steps: int) -> None:
        calls.append(phase)
        if phase == "stopping":
            return
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)  # the main thread hears of it now, while the library waits here

    pieces: list[bytes] = []
    with pytest.raises(KeyboardInterrupt):
        build(pieces.append, progress=progress)
    assert len(calls) == 2
    assert calls[1] == "stopping"
    assert not pieces


def test_what_progress_raises_stops_the_build():
    def progress(phase: str, step: int, steps: int) -> None:
        raise RuntimeError("the display broke")

    with pytest.raises(RuntimeError, match="the display broke"):
        build(progress=progress)


def test_what_write_raises_stops_the_build():
    def write(piece: bytes) -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        build(write)


def test_the_librarys_log_goes_to_python(caplog):
    with caplog.at_level(logging.DEBUG, logger="saguaro.tensorrt"):
        build()
    assert any(record.name == "saguaro.tensorrt" for record in caplog.records)


def test_a_failing_build_tells_the_librarys_reason():
    with pytest.raises(SaguaroError, match=r"(?s)could not build the engine.*sm75"):
        build(compute_capabilities=["7.5"])  # Turing has no bf16


def test_an_unknown_precision_is_refused():
    with pytest.raises(ConfigError, match=r"'fp8'.*fp32, bf16, fp16"):
        build(precision="fp8")


@pytest.mark.parametrize("name", ["9.9", "89", "8.9.0", "", "sm89"])
def test_an_unknown_compute_capability_is_refused(name):
    with pytest.raises(ConfigError, match=r"compute capability '.*8\.0, 8\.6, 8\.9, 12\.0"):
        build(compute_capabilities=[name])
