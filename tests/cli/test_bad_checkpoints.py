"""Checkpoints that cannot be built from, or must not be: one sentence, exit code 2, and nothing left behind."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
NAME = "model.layers.0.self_attn.k_proj.weight"


def is_missing(checkpoint: Path) -> None:
    shutil.rmtree(checkpoint)


def is_none(checkpoint: Path) -> None:
    (checkpoint / "config.json").unlink()


def config(checkpoint: Path, **changes: object) -> None:
    file = checkpoint / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


def is_sharded(checkpoint: Path, shard: str = "model-00001-of-00001.safetensors", without: str = "") -> None:
    """With all tensors but `without` in one shard of that name, which is there when it can be."""
    names = load_file(checkpoint / WEIGHTS)
    (checkpoint / INDEX).write_text(json.dumps({"weight_map": {name: shard for name in names if name != without}}))
    (checkpoint / WEIGHTS).rename(checkpoint / "model-00001-of-00001.safetensors")


def has_a_tensor_of_another_shape(checkpoint: Path) -> None:
    tensors = load_file(checkpoint / WEIGHTS)
    save_file({**tensors, NAME: torch.zeros(3, 5)}, checkpoint / WEIGHTS, {"format": "pt"})


def is_cut_off(checkpoint: Path) -> None:
    (checkpoint / WEIGHTS).write_bytes((checkpoint / WEIGHTS).read_bytes()[:-1])


def has_other_tokens(checkpoint: Path) -> None:
    file = checkpoint / "tokenizer.json"
    tokenizer = json.loads(file.read_text())
    tokens = tokenizer["model"]["vocab"]
    first, second = list(tokens)[100:102]
    tokens[first], tokens[second] = tokens[second], tokens[first]
    file.write_text(json.dumps(tokenizer))


def is_pickled(checkpoint: Path) -> None:
    (checkpoint / WEIGHTS).rename(checkpoint / "pytorch_model.bin")


def has_a_tokenizer_of_its_own(checkpoint: Path) -> None:
    (checkpoint / "tokenizer.json").unlink()
    settings = {"tokenizer_class": "Mine", "auto_map": {"AutoTokenizer": ["mine.Mine", None]}}
    (checkpoint / "tokenizer_config.json").write_text(json.dumps(settings))
    (checkpoint / "mine.py").write_text("raise SystemExit('the code of the checkpoint ran')")


CASES = {
    "missing": (is_missing, ["no such directory"]),
    "no checkpoint": (is_none, ["config.json"]),
    "architecture": (lambda path: config(path, architectures=["Mamba"]), ["Mamba", "Qwen3ForCausalLM"]),
    "index without a tensor": (lambda path: is_sharded(path, without=NAME), [INDEX, NAME]),
    "shard that is not there": (lambda path: is_sharded(path, "model-00002.safetensors"), ["model-00002.safetensors"]),
    "shard outside": (lambda path: is_sharded(path, "../weights.safetensors"), [INDEX, "../weights.safetensors"]),
    "shard elsewhere": (lambda path: is_sharded(path, "/etc/passwd"), [INDEX, "/etc/passwd"]),
    "shape": (has_a_tensor_of_another_shape, [WEIGHTS, NAME, "[3, 5]", "[32, 64]"]),
    "truncated": (is_cut_off, [WEIGHTS, "truncated"]),
    "tokens": (has_other_tokens, ["target", "draft"]),
    "pickle": (is_pickled, ["pytorch_model.bin", "safetensors"]),
    "code": (has_a_tokenizer_of_its_own, ["tokenizer.json"]),
}


@pytest.mark.parametrize("role", ["target", "draft"])
@pytest.mark.parametrize("case", CASES)
def test_refused_from_the_command_line(refused, pair, tmp_path, case, role):
    damage, parts = CASES[case]
    for name in ("target", "draft"):
        shutil.copytree(pair / name, tmp_path / name)
    damage(tmp_path / role)
    before = sorted(tmp_path.rglob("*"))
    sentence = refused(
        [str(tmp_path / role), *parts],
        "build", "--target", tmp_path / "target", "--draft", tmp_path / "draft", "-o", tmp_path / "engine",
        "--max-seq-len", 64, "--enforce-eager", "-q",
    )  # fmt: skip
    assert "Traceback" not in sentence
    assert sorted(tmp_path.rglob("*")) == before
