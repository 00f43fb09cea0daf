from __future__ import annotations

import json
import shutil

import pytest


@pytest.fixture
def copy(engine, tmp_path):
    return shutil.copytree(engine, tmp_path / "engine")


def test_json_is_the_manifest(saguaro, engine):
    result = saguaro("inspect", engine, "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout) == json.loads((engine / "saguaro.json").read_text())


def test_readable(saguaro, engine, pair):
    result = saguaro("inspect", engine)
    assert result.exit_code == 0
    text = " ".join(result.stdout.split())
    for part in ("LlamaForCausalLM: 2 layers of 64", "torch, fp32", "4096 tokens", "lookahead 3", "as built"):
        assert part in text
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_a_flipped_byte_is_found(refused, copy):
    file = copy / "target" / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    for command in (["inspect", copy], ["generate", copy, "--prompt", "x"]):
        refused([file, "damaged", "build the engine again"], *command)


def test_a_newer_format_is_refused(refused, copy):
    manifest = json.loads((copy / "saguaro.json").read_text())
    (copy / "saguaro.json").write_text(json.dumps({**manifest, "format_version": 99}))
    refused(["format_version is 99", "upgrade Saguaro"], "inspect", copy)


def test_a_half_built_engine_is_refused(refused, copy):
    (copy / "saguaro.json").unlink()
    refused([copy, "saguaro.json"], "inspect", copy)
    refused([copy / "no", "no such engine"], "inspect", copy / "no")
