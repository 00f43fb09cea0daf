"""The session gives TensorRT the right memory: the interpreter stands in, and sees bare addresses."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from saguaro.builder.checkpoint import open_checkpoint
from saguaro.errors import EngineError
from saguaro.runtime.sessions.session import Step
from saguaro.runtime.sessions.tensorrt_session import (
    TensorRTSession,
    cache_bindings,
    device_weights,
    full_mask,
)
from tests.support.checkpoints import make_checkpoint
from tests.tensorrt.fake_library import Engine, Stream, library
from tests.tensorrt.models import CPU, ROWS, Network, chain, error, joined, path_to, reference, tree

trt = pytest.importorskip("tensorrt_rtx")

TOKENS = torch.randint(0, 300, (40,), generator=torch.Generator().manual_seed(8)).tolist()
SLOTS = 3
LIMITS = {"precision": "fp32", "rows": ROWS, "max_batch_size": SLOTS, "device": CPU}


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return make_checkpoint(tmp_path_factory.mktemp("model"), "Qwen3ForCausalLM", tie_word_embeddings=True)


@pytest.fixture
def a_gpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: Stream())
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 9))


@pytest.fixture
def open_session(path, a_gpu, monkeypatch, tmp_path):
    plan = tmp_path / "plan"
    plan.write_bytes(b"a plan")

    def start(embedded: bool = False, **changes) -> TensorRTSession:
        checkpoint = open_checkpoint(str(path))
        load_weight = checkpoint.tensors.get
        network = Network(trt, checkpoint.config, "fp32", load_weight if embedded else None)
        fake = library(trt, Engine(trt, network, max_batch_size=SLOTS, steps=[4, 32]))
        monkeypatch.setitem(sys.modules, "fake_tensorrt", fake)
        values = {"load_weight": None if embedded else load_weight, **changes}
        return TensorRTSession(plan, checkpoint.config, library="fake_tensorrt", **LIMITS, **values)

    return start


@pytest.mark.parametrize("embedded", [False, True], ids=["external", "embedded"])
def test_steps_of_every_profile_in_every_slot(open_session, path, embedded):
    session = open_session(embedded)
    expected = reference(path, "fp32", TOKENS)
    for slot in range(SLOTS):
        cuts = [0, 30, 31, 34, 40]
        parts = [session.forward(chain(TOKENS[a:b], a, slot))[0] for a, b in pairwise(cuts)]
        assert error(torch.cat(parts), expected) < 1e-4


def test_a_batch_lies_in_neighbouring_slots(open_session, path):
    session = open_session()
    first, second = TOKENS[:9], TOKENS[20:36]
    session.forward(chain(first[:6], 0, first_slot=1))
    session.forward(chain(second[:13], 0, first_slot=2))
    logits = session.forward(joined([first[6:], second[13:]], [6, 13], first_slot=1))
    assert error(logits[0], reference(path, "fp32", first)[-3:]) < 1e-4
    assert error(logits[1], reference(path, "fp32", second)[-3:]) < 1e-4
    assert not session.cache[:, 0].any()


def test_the_rows_of_a_trees_path_move_together(open_session, path):
    session = open_session()
    prompt, parents, leaf = TOKENS[:7], [-1, -1, 1, 1, 3], 4
    nodes = TOKENS[20:25]
    session.forward(chain(prompt, 0, first_slot=0))
    session.forward(tree(nodes, parents, len(prompt)))
    accepted = path_to(leaf, parents)
    session.move_rows(0, [len(prompt) + node for node in accepted], len(prompt))
    sequence = prompt + [nodes[node] for node in accepted] + TOKENS[30:32]
    logits = session.forward(chain(TOKENS[30:32], len(prompt) + len(accepted)))[0]
    assert error(logits, reference(path, "fp32", sequence)[-2:]) < 1e-4


def test_a_slot_moves_whole(open_session, path):
    session = open_session()
    session.forward(chain(TOKENS[:20], 0, first_slot=2))
    session.move_slot(2, 0)
    logits = session.forward(chain(TOKENS[20:24], 20, first_slot=0))[0]
    assert error(logits, reference(path, "fp32", TOKENS[:24])[-4:]) < 1e-4


def test_a_step_longer_than_every_profile_is_refused(open_session):
    with pytest.raises(EngineError, match="33 tokens is longer than the 32"):
        open_session().forward(chain(TOKENS[:33], 0))


def test_closing_gives_the_memory_back(open_session):
    session = open_session()
    session.forward(chain(TOKENS[:3], 0))
    session.close()
    assert session.cache.numel() == 0


def test_external_weights_need_a_checkpoint(open_session):
    with pytest.raises(EngineError, match="no checkpoint was given"):
        open_session(load_weight=None)


def test_a_weight_of_another_shape_is_refused(open_session):
    with pytest.raises(EngineError, match=r"model\.embed_tokens\.weight has the shape \(3, 3\)"):
        open_session(load_weight=lambda name: torch.zeros(3, 3))


def test_without_a_gpu_loading_says_so(path, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = open_checkpoint(str(path)).config
    with pytest.raises(EngineError, match="runs on an NVIDIA GPU and torch finds none here"):
        TensorRTSession(tmp_path / "plan", config, library="tensorrt_rtx", load_weight=None, **LIMITS)


def test_without_the_library_loading_says_so(path, tmp_path, a_gpu, monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    config = open_checkpoint(str(path)).config
    with pytest.raises(EngineError, match=r"pip install saguaro\[tensorrt-rtx\]"):
        TensorRTSession(tmp_path / "plan", config, library="tensorrt_rtx", load_weight=None, **LIMITS)


def test_a_plan_that_the_library_refuses_is_an_error(path, tmp_path, a_gpu):
    plan = tmp_path / "plan"
    plan.write_bytes(b"no plan at all" * 100)
    config = open_checkpoint(str(path)).config
    here = {"tensorrt_rtx": trt.__version__, "compute_capability": "8.6, 8.9"}
    with pytest.raises(EngineError, match=r"tensorrt_rtx could not load this engine \((?!it ).+\); build it again"):
        TensorRTSession(plan, config, library="tensorrt_rtx", load_weight=None, built_with=here, **LIMITS)


@pytest.mark.parametrize(
    ("built_with", "parts"),
    [
        ({"fake_tensorrt": "10.16.0"}, ["built with fake_tensorrt 10.16.0, and 10.15.1 is installed"]),
        ({"compute_capability": "9.0"}, ["built for compute capability 9.0, and this GPU has 8.9"]),
        ({"compute_capability": "8.0, 12.0"}, ["8.0, 12.0, and this GPU has 8.9"]),
        ({"fake_tensorrt": "9.0", "compute_capability": "9.0"}, ["fake_tensorrt 9.0", "; ", "capability 9.0"]),
        ({"fake_tensorrt": "10.15.1", "compute_capability": "8.6, 8.9"}, ["it gave no reason"]),
    ],
)
def test_a_plan_for_another_machine_says_how_it_differs(path, tmp_path, a_gpu, monkeypatch, built_with, parts):
    plan = tmp_path / "plan"
    plan.write_bytes(b"a plan")
    monkeypatch.setitem(sys.modules, "fake_tensorrt", library(trt, None))
    config = open_checkpoint(str(path)).config
    with pytest.raises(EngineError) as caught:
        TensorRTSession(plan, config, library="fake_tensorrt", load_weight=None, built_with=built_with, **LIMITS)
    for part in [f"{plan}: fake_tensorrt could not load this engine (", *parts, "build it again for this machine"]:
        assert part in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"visible": torch.ones(1, 2, 3, dtype=torch.bool)}, r"shape \[1, 2, 3\], expected \[1, 3, R\]"),
        ({"visible": torch.ones(3, 3, dtype=torch.bool)}, r"shape \[3, 3\], expected \[1, 3, R\]"),
        ({"prefix": [ROWS + 1]}, f"a prefix of {ROWS + 1} rows, and the cache has {ROWS}"),
        ({"prefix": [-1]}, "a prefix of -1 rows"),
        ({"prefix": [ROWS - 2]}, f"a mask of 3 rows after a prefix of {ROWS - 2}, and the cache has {ROWS}"),
        ({"write_index": [ROWS - 2]}, f"writes 3 rows from row {ROWS - 2} on, and the cache has {ROWS}"),
        ({"prefix": [5, 5]}, "a step of 1 sequences has 2 prefix lengths"),
    ],
)
def test_a_step_that_does_not_fit_the_cache_is_refused(open_session, changes, message):
    session = open_session()
    session.forward(chain(TOKENS[:5], 0))
    with pytest.raises(EngineError, match=message):
        session.forward(replace(chain(TOKENS[5:8], 5), **changes))


def test_the_last_rows_of_the_cache_can_be_used(open_session):
    session = open_session()
    step = replace(chain(TOKENS[:3], 0), write_index=[ROWS - 3], prefix=[ROWS - 3])
    assert session.forward(step).shape[:2] == (1, 3)


def test_the_mask_covers_all_rows():
    visible = torch.tensor([[[1, 0], [1, 1]], [[1, 0], [0, 1]]], dtype=torch.bool)
    step = Step(
        torch.zeros(2, 2, dtype=torch.int64), torch.zeros(2, 2, dtype=torch.int64), [1, 3], visible, [1, 3]
    )
    rows = [["11000000", "11100000"], ["11110000", "11101000"]]
    expected = torch.tensor([[[cell == "1" for cell in row] for row in batch] for batch in rows]).unsqueeze(1)
    assert torch.equal(full_mask(step, 8), expected)


def test_cache_bindings_are_contiguous_views():
    cache = torch.arange(4 * 3 * 2 * 5 * 6, dtype=torch.float32).view(4, 3, 2, 5, 6)
    bound = dict(cache_bindings(cache, first_slot=1, count=2))
    names = [f"{kind}.{layer}" for layer in range(2) for kind in ("key", "value")]
    assert sorted(bound) == sorted(f"{side}_{name}" for name in names for side in ("past", "present"))
    for index, name in enumerate(names):
        assert bound[f"past_{name}"].is_contiguous()
        assert (
            bound[f"past_{name}"].data_ptr()
            == bound[f"present_{name}"].data_ptr()
            == cache[index, 1].data_ptr()
        )


def test_tied_weights_are_loaded_once(path):
    checkpoint = open_checkpoint(str(path))
    names = ["model.embed_tokens.weight", "lm_head.weight"]
    pairs = list(device_weights(checkpoint.config, names, checkpoint.tensors.get, torch.bfloat16, CPU))
    assert [name for name, _ in pairs] == names
    assert pairs[0][1] is pairs[1][1]
    assert pairs[0][1].dtype == torch.bfloat16
