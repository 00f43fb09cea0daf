from __future__ import annotations

import json
import shutil
import sys

import pytest

DEPLOYMENT = """
target: {checkpoint: target}
draft: {checkpoint: draft}
build: {max_seq_len: 128, max_batch_size: 2, enforce_eager: true}
speculation: {lookahead: 4, budget: 8}
"""


@pytest.fixture
def deployment(pair, tmp_path):
    """A deployment file beside links to the pair, which it names by relative paths."""
    for role in ("target", "draft"):
        (tmp_path / role).symlink_to(pair / role)
    file = tmp_path / "small.yaml"
    file.write_text(DEPLOYMENT)
    return file


def manifest(engine):
    return json.loads((engine / "saguaro.json").read_text())


def test_from_a_deployment_file(saguaro, deployment, tmp_path):
    result = saguaro("build", deployment, "-o", tmp_path / "engine")
    assert result.exit_code == 0, result.output
    assert result.stdout == ""
    steps = [line.partition(":")[0] for line in result.stderr.splitlines()]
    assert steps[:4] == ["checkpoints", "target", "draft", "hashes"]
    assert "tensors" in result.stderr
    assert f"Built {tmp_path / 'engine'} in" in result.stderr
    values = manifest(tmp_path / "engine")
    assert (values["max_seq_len"], values["max_batch_size"], values["precision"]) == (128, 2, "fp32")
    assert values["speculation"]["lookahead"] == 4


def test_options_take_the_place_of_the_file_and_quiet_is_quiet(saguaro, deployment, tmp_path):
    result = saguaro(
        "build", deployment, "-o", tmp_path / "engine", "-q", "--precision", "bf16", "--lookahead", 2,
        "--budget", 3, "--max-seq-len", 64, "--max-batch-size", 1,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert result.output == ""
    values = manifest(tmp_path / "engine")
    assert (values["precision"], values["max_seq_len"], values["max_batch_size"]) == ("bf16", 64, 1)
    assert (values["speculation"]["lookahead"], values["speculation"]["budget"]) == (2, 3)


def test_the_output_is_named_after_the_file(saguaro, deployment, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert saguaro("build", "small.yaml", "-q").exit_code == 0
    assert (tmp_path / "engines" / "small" / "saguaro.json").is_file()


def test_from_two_checkpoints(saguaro, pair, tmp_path, monkeypatch):
    monkeypatch.chdir(pair)
    result = saguaro(
        "build", "--target", "target", "--draft", "./draft", "-o", tmp_path / "engine", "--enforce-eager",
        "--max-seq-len", 64,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert manifest(tmp_path / "engine")["target"]["source"] == str(pair / "target")


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--lookahead", 0], ["lookahead is 0", "from 1 to 64"]),
        (["--lookahead", 65], ["lookahead is 65", "from 1 to 64"]),
        (["--budget", 0], ["budget is 0", "from 1 to 1024"]),
        (["--max-batch-size", 0], ["max_batch_size is 0", "from 1 to 256"]),
        (["--max-seq-len", 8], ["max_seq_len is 8", "from 16 to 1048576"]),
        (["--max-seq-len", 100000], ["max_seq_len is 100000", "4096"]),
        (["--backend", "torhc"], ["backend is 'torhc'", "did you mean 'torch'?"]),
        (["--backend", "tensorrt-rtx", "--attention", "plugin"], ["attention is 'plugin'", "has no plugins"]),
        (["--backend", "tensorrt-llm"], ["'tensorrt-llm' is not available in this release"]),
        (["--precision", "fp16"], ["precision is 'fp16'", "tensorrt-rtx"]),
        (["--precision", "int4"], ["precision is 'int4'", "fp32, bf16, fp16"]),
        (["--compute-capability", "sm_89"], ["compute_capability is ['sm_89']"]),
        (["--target", "/nowhere"], ["/nowhere"]),
    ],
    ids=lambda value: " ".join(map(str, value)) if value and str(value[0]).startswith("--") else "",
)
def test_bad_options_leave_nothing_behind(refused, deployment, tmp_path, options, parts):
    refused(parts, "build", deployment, "-o", tmp_path / "engine", *options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["draft", "small.yaml", "target"]


@pytest.mark.parametrize("backend", ["tensorrt", "tensorrt-rtx"])
def test_a_missing_library_is_noticed_before_anything_is_done(refused, tmp_path, monkeypatch, backend):
    monkeypatch.setitem(sys.modules, backend.replace("-", "_"), None)
    options = ["--backend", backend, "--target", "/nowhere", "--draft", "/nowhere", "-o", tmp_path / "engine"]
    refused([f"backend {backend} needs the library", f"pip install saguaro[{backend}]"], "build", *options)
    assert list(tmp_path.iterdir()) == []


def test_what_to_build_has_to_be_said(refused, tmp_path):
    refused(["-o"], "build", "--target", "a/b", "--draft", "c/d")
    refused(["target and draft"], "build", "--target", "a/b", "-o", tmp_path / "engine")
    refused([tmp_path / "no.yaml", "no such file"], "build", tmp_path / "no.yaml", "-o", tmp_path / "engine")


def test_bad_yaml_is_one_sentence(refused, deployment, tmp_path):
    deployment.write_text(DEPLOYMENT.replace("lookahead", "lokahead"))
    build = ["build", deployment, "-o", tmp_path / "engine"]
    refused([deployment, "speculation.lokahead", "'lookahead'"], *build)
    deployment.write_text(DEPLOYMENT.replace("{max", "{{max"))
    refused([f"{deployment}: line "], *build)


def test_an_unset_variable_is_named(refused, deployment, tmp_path, monkeypatch):
    monkeypatch.delenv("SAGUARO_UNSET", raising=False)
    deployment.write_text(DEPLOYMENT.replace("checkpoint: target", 'checkpoint: "${SAGUARO_UNSET}"'))
    refused([deployment, "SAGUARO_UNSET is not set"], "build", deployment, "-o", tmp_path / "engine")


def test_an_output_directory_that_holds_something_else_stays(refused, deployment, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    refused([tmp_path / "mine", "no Saguaro engine"], "build", deployment, "-o", tmp_path / "mine")
    refused([deployment, "file"], "build", deployment, "-o", deployment)
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years of work"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["draft", "mine", "small.yaml", "target"]


def test_an_unknown_architecture_names_the_known_ones(refused, deployment, pair, tmp_path):
    (tmp_path / "target").unlink()
    shutil.copytree(pair / "target", tmp_path / "target")
    file = tmp_path / "target" / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "architectures": ["GPT2LMHeadModel"]}))
    known = ["LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"]
    refused([file, "GPT2LMHeadModel", *known], "build", deployment, "-o", tmp_path / "engine")
    assert not (tmp_path / "engine").exists()


def test_a_failure_while_running_exits_with_1(saguaro, deployment, tmp_path, monkeypatch):
    """An error of the machine, here a full disk, is one line too."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("saguaro.builder.build.write_eager", full)
    result = saguaro("build", deployment, "-o", tmp_path / "engine", "-q")
    assert result.exit_code == 1
    assert result.stderr.strip() == "Error: [Errno 28] No space left on device"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["draft", "small.yaml", "target"]
