"""`saguaro build --backend tensorrt`: what it asks for, and what it leaves, with the library played by a double."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from saguaro import build
from saguaro.builder.tensorrt.gpu import find_gpu
from saguaro.errors import ConfigError
from tests.support.checkpoints import make_checkpoint

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """A target with heads of 64, which there are kernels for, and a draft with heads of 16."""
    directory = tmp_path_factory.mktemp("pair")
    make_checkpoint(directory / "wide", head_dim=64)
    make_checkpoint(directory / "narrow", head_dim=16)
    return directory


def command(pair, output, target, draft, *options) -> list[str]:
    return [
        "build", "--backend", "tensorrt", "--target", pair / target, "--draft", pair / draft, "-o", output, "-q",
        "--precision", "bf16", "--max-seq-len", "128", "--max-batch-size", "2", *options,
    ]  # fmt: skip


def run(*arguments) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    line = [sys.executable, "-m", "tests.tensorrt.full_build_check", *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


played = pytest.mark.skipif(
    find_spec("tensorrt_rtx") is None or find_spec("triton") is None, reason="the doubles need both"
)


@played
def test_a_plan_holds_the_kernels_for_the_gpu_at_hand(pair, tmp_path):
    done = run(*command(pair, tmp_path / "engine", "wide", "wide"))
    assert done.returncode == 0, done.stderr[-3000:]
    manifest = json.loads((tmp_path / "engine" / "saguaro.json").read_text())
    assert manifest["backend"] == "tensorrt"
    assert manifest["built_with"]["tensorrt"] == "11.4.0"
    assert manifest["built_with"]["compute_capability"] == "8.9"
    for role in ("target", "draft"):
        plan = (tmp_path / "engine" / role / "model.plan").read_text()
        assert set(re.findall(r"^\.target (\w+)", plan, re.MULTILINE)) == {"sm_89"}
        entries = re.findall(r"\.entry (\w+)\(", plan)
        assert entries == ["split_kernel", "split_kernel", "merge_kernel"] * 2  # two tactics, two layers
        assert "ancestors\nprefix_length\n" in plan


@played
def test_native_attention_has_no_kernels_of_ours(pair, tmp_path):
    done = run(*command(pair, tmp_path / "engine", "wide", "narrow", "--attention", "native"))
    assert done.returncode == 0, done.stderr[-3000:]
    plan = (tmp_path / "engine" / "draft" / "model.plan").read_text()
    assert "attention_mask" in plan
    assert "entry" not in plan


@played
def test_heads_without_a_kernel_are_refused(pair, tmp_path):
    done = run(*command(pair, tmp_path / "engine", "wide", "narrow"))
    assert done.returncode == 2
    sentence = "build.attention plugin has kernels for heads of 64, 80, 96, 128, 256, and the draft's have 16"
    assert f"Error: {sentence}; build with attention native" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_without_a_gpu_the_build_says_so_first(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setitem(sys.modules, "tensorrt", SimpleNamespace(__version__="10.15.1.29"))
    with pytest.raises(ConfigError, match=r"on the GPU that it compiles for.*tensorrt-rtx, which needs no GPU"):
        build(target="/nowhere", draft="/nowhere", output=tmp_path / "engine", backend="tensorrt")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("device", "message"), [("cpu", "placed on cpu.*place it on cuda"), ("cuda:1", "placed on cuda:1.*has 1 GPUs")]
)
def test_a_model_has_to_be_placed_on_a_gpu_that_is_there(monkeypatch, device, message):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match=message):
        find_gpu(device)
