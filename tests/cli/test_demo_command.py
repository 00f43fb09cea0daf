"""The demo on a small pair in a small repository: the same steps in seconds."""

from __future__ import annotations

from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec

import pytest

from saguaro.cli import bundled, demo_tensorrt

demo = import_module("saguaro.cli.demo")  # as an attribute of its package this is the command

DEPLOYMENT = """
target: {checkpoint: ../examples/demo/target}
draft: {checkpoint: ../examples/demo/draft}
build: {max_seq_len: 256, max_batch_size: 1, enforce_eager: true}
"""


@pytest.fixture
def repository(pair, tmp_path, monkeypatch):
    (tmp_path / "examples" / "demo").mkdir(parents=True)
    for role in ("target", "draft"):
        (tmp_path / "examples" / "demo" / role).symlink_to(pair / role)
    lines = "".join(f'{{"prompt": "def f{i}("}}\n' for i in range(12))
    (tmp_path / "examples" / "demo" / "prompts.jsonl").write_text(lines)
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "demo.yaml").write_text(DEPLOYMENT)
    monkeypatch.setattr(bundled, "ROOT", tmp_path)
    monkeypatch.setattr(demo, "MEASURED_TOKENS", 8)
    monkeypatch.setattr(demo, "SHOWN_TOKENS", 24)
    return tmp_path


def test_builds_runs_and_compares(saguaro, repository, monkeypatch):
    monkeypatch.setattr(demo_tensorrt, "find_spec", lambda name: None)
    monkeypatch.chdir(repository)
    result = saguaro("demo")
    assert result.exit_code == 0, result.output
    text = " ".join(result.stdout.split())
    for part in (
        "ar: 24 tokens in",
        "sd: 24 tokens in",
        "ssd: 24 tokens in",
        "10 held-out prompts",
        "The tokens are the same in ar, sd, ssd, for all 10 prompts.",
        "pip install 'saguaro[tensorrt-rtx]'",
        "saguaro generate engines/demo",
    ):
        assert part in text
    assert (repository / "engines" / "demo" / "saguaro.json").is_file()
    shown = [
        block.partition("tokens in")[0].rpartition("\n")[0] for block in result.stdout.split(demo.PROMPT)[1:]
    ]
    assert len(shown) == 3
    assert len(set(shown)) == 1
    bench = saguaro("bench", repository / "engines" / "demo", "--max-tokens", 4, "--repeat", 1)
    assert "for all 12 prompts" in bench.stdout  # the demo's prompts are the default for its engine


@pytest.mark.skipif(find_spec("tensorrt_rtx") is None, reason="tensorrt-rtx is not installed")
def test_ends_with_tensorrt_plans(repository, monkeypatch, capsys):
    from rich.console import Console

    llama = demo_tensorrt.llama_8b()
    small = replace(llama, num_layers=1, vocab_size=512, hidden_size=256, intermediate_size=512)
    monkeypatch.setattr(demo_tensorrt, "llama_8b", lambda: small)
    engines = repository / "engines"
    demo_tensorrt.show_tensorrt(Console(), repository / "configs" / "demo.yaml", engines / "demo")
    text = " ".join(capsys.readouterr().out.split())
    assert "The pair:" in text
    assert "weights outside the plan:" in text
    plan = engines / "demo-tensorrt-rtx" / "target" / "model.plan"
    assert plan.stat().st_size > 10_000


def test_without_the_repository_it_says_so(refused, tmp_path, monkeypatch):
    monkeypatch.setattr(bundled, "ROOT", tmp_path)
    refused(["examples/demo", "clone the repository", "make demo"], "demo")
