"""Networks for full TensorRT, with our plugins in them: the same logits, and the session that feeds them.

The library itself is played by TensorRT-RTX (full_library.py), the plugins by plugin_semantics.py.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from importlib.util import find_spec

import pytest
import torch

from saguaro.builder.checkpoint import open_checkpoint
from saguaro.builder.tensorrt import build_plan
from saguaro.builder.tensorrt.gpu import Gpu
from saguaro.builder.tensorrt.plugin_operations import PluginAttention, plan_attention, register_plugins
from saguaro.errors import ConfigError
from saguaro.models.config import ModelConfig
from saguaro.runtime.sessions.tensorrt_session import TensorRTSession
from tests.support.checkpoints import make_checkpoint
from tests.tensorrt.fake_library import Engine, Stream, library
from tests.tensorrt.full_library import installed
from tests.tensorrt.models import (
    CPU,
    ROWS,
    Network,
    NetworkModel,
    chain,
    error,
    joined,
    path_to,
    reference,
    tree,
)

pytest.importorskip("tensorrt_rtx")
# Not imported here: tests/plugins chooses Triton's interpreter before anything does.
pytestmark = pytest.mark.skipif(find_spec("triton") is None, reason="the plugins' kernels need Triton")

CONFIG = ModelConfig(
    architecture="Qwen3ForCausalLM", vocab_size=320, hidden_size=64, intermediate_size=96, num_layers=2,
    num_heads=4, num_kv_heads=2, head_dim=16, rms_norm_eps=1e-6, rope_theta=1e6, rope_scaling=None,
    max_position_embeddings=512, tie_word_embeddings=True, attention_bias=True, attention_output_bias=True,
    mlp_bias=False, qk_norm=True,
)  # fmt: skip
GPU = Gpu(index=0, capability=90, processors=132)
ATTENTION = PluginAttention(splits=4, pairs=128)
TOLERANCE = {"fp32": 1e-4, "bf16": 2e-2, "fp16": 2e-2}
TOKENS = torch.randint(0, 300, (48,), generator=torch.Generator().manual_seed(5)).tolist()


@pytest.fixture
def trt():
    with installed() as module:
        register_plugins(GPU)
        yield module


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("model"), "Qwen3ForCausalLM", initializer_range=0.08)


def test_a_prefix_and_bits_stand_for_the_mask(trt):
    inputs = Network(trt, CONFIG, "bf16", attention=ATTENTION).inputs()
    assert "attention_mask" not in inputs
    assert (inputs["ancestors"].dtype, tuple(inputs["ancestors"].shape)) == (trt.int32, (-1, -1, -1))
    assert (inputs["prefix_length"].dtype, tuple(inputs["prefix_length"].shape)) == (trt.int32, (-1,))
    native = Network(trt, CONFIG, "bf16").inputs()
    assert set(native) - set(inputs) == {"attention_mask"}


def test_every_layer_has_both_plugins(trt):
    calls = Network(trt, CONFIG, "bf16", attention=ATTENTION).definition.calls
    split, merge = "saguaro::tree_attention_split", "saguaro::tree_attention_merge"
    assert [call.plugin for call in calls] == [split, merge] * CONFIG.num_layers
    assert calls[0].attributes == {"head_size": 16, "pairs": 128, "splits": 4, "scale": 0.25}
    assert calls[1].attributes == {"head_size": 16, "precision": "bf16"}
    assert [tensor.name for tensor in calls[0].inputs[1:]] == [
        "present_key.0", "present_value.0", "ancestors", "prefix_length",
    ]  # fmt: skip


@pytest.mark.parametrize("precision", TOLERANCE)
def test_a_tree_equals_its_paths(trt, path, precision):
    model = NetworkModel(trt, path, precision, attention=ATTENTION)
    prompt, parents = TOKENS[:9], [-1, 0, 0, 1, 2, 2, -1, 6]
    nodes = TOKENS[20 : 20 + len(parents)]
    first = model.forward(chain(prompt, 0))[0]
    assert error(first, reference(path, precision, prompt)) < TOLERANCE[precision]
    logits = model.forward(tree(nodes, parents, len(prompt)))[0]
    for node in range(len(parents)):
        single = prompt + [nodes[index] for index in path_to(node, parents)]
        assert error(logits[node], reference(path, precision, single)[-1]) < TOLERANCE[precision]


def test_a_batch_of_sequences_of_different_lengths(trt, path):
    model = NetworkModel(trt, path, "fp32", embedded=True, attention=ATTENTION)
    first, second = TOKENS[:8], TOKENS[:48]
    model.forward(chain(first[:5], 0, first_slot=0))
    model.forward(chain(second[:45], 0, first_slot=1))  # two words of bits
    logits = model.forward(joined([first[5:], second[45:]], [5, 45]))
    assert error(logits[0], reference(path, "fp32", first)[-3:]) < TOLERANCE["fp32"]
    assert error(logits[1], reference(path, "fp32", second)[-3:]) < TOLERANCE["fp32"]


def test_the_session_packs_masks_for_a_plan_with_plugins(trt, path, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream())
    checkpoint = open_checkpoint(str(path))
    network = Network(trt, checkpoint.config, "fp32", attention=ATTENTION)
    fake = library(trt, Engine(trt, network, max_batch_size=2, steps=[4, 48]))
    monkeypatch.setitem(sys.modules, "fake_tensorrt", fake)
    plan = tmp_path / "plan"
    plan.write_bytes(b"a plan")
    session = TensorRTSession(
        plan, checkpoint.config, library="fake_tensorrt", precision="fp32", rows=ROWS, max_batch_size=2,
        load_weight=checkpoint.tensors.get, device=CPU,
    )  # fmt: skip
    prompt, parents, leaf = TOKENS[:40], [-1, -1, 1, 1], 3
    session.forward(chain(prompt, 0))
    nodes = TOKENS[40:44]
    logits = session.forward(tree(nodes, parents, len(prompt)))[0]
    accepted = path_to(leaf, parents)
    sequence = prompt + [nodes[node] for node in accepted]
    assert error(logits[leaf], reference(path, "fp32", sequence)[-1]) < 1e-4
    session.move_rows(0, [len(prompt) + node for node in accepted], len(prompt))
    last = session.forward(chain(TOKENS[44:46], len(sequence)))[0]
    assert error(last, reference(path, "fp32", sequence + TOKENS[44:46])[-2:]) < 1e-4


def test_a_mask_may_name_every_row_of_the_cache(trt, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device", CurrentDevice)
    monkeypatch.setattr("tests.tensorrt.full_library.Call.kernels", lambda call: iter(()))
    pieces: list[bytes] = []
    build_plan(
        CONFIG, pieces.append, tensorrt=trt, precision="bf16", max_batch_size=3, max_step=128, rows=1000,
        gpu=replace(GPU, index=1), plugin_attention=True,
    )  # fmt: skip
    assert b"ancestors" in b"".join(pieces)
    network, settings = trt.Builder.built
    ranges = [profile.get_shape("ancestors") for profile in settings.profiles]
    assert [[tuple(shape) for shape in shapes] for shapes in ranges] == [
        [(1, 1, 1), (1, 32, 1), (3, 32, 32)], [(1, 1, 1), (1, 128, 4), (3, 128, 32)],
    ]  # fmt: skip
    assert network.calls[0].attributes["pairs"] == 2 * 128
    assert set(CurrentDevice.chosen) == {1}


class CurrentDevice:
    """In place of `torch.cuda.device`."""

    chosen: list[int] = []  # noqa: RUF012

    def __init__(self, index: int) -> None:
        self.chosen.append(index)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass


def test_shares_fill_the_gpu_as_far_as_memory_goes():
    config = replace(CONFIG, num_heads=32, num_kv_heads=8, head_dim=128)
    limits = {"dtype": torch.bfloat16, "gpu": GPU}
    assert plan_attention(config, rows=4096, max_batch_size=4, max_step=128, **limits) == PluginAttention(16, 512)
    assert plan_attention(config, rows=1024, max_batch_size=1, max_step=128, **limits).splits == 4
    assert plan_attention(config, rows=65536, max_batch_size=1, max_step=128, **limits).splits == 32
    assert plan_attention(config, rows=4096, max_batch_size=32, max_step=128, **limits).splits == 4
    assert plan_attention(config, rows=4096, max_batch_size=256, max_step=1024, **limits).splits == 1


def test_plugins_need_triton(monkeypatch):
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(ConfigError, match=r"needs Triton.*pip install saguaro\[tensorrt\]"):
        register_plugins(GPU)
