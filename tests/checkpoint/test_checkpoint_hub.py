"""Hub ids: what is asked of huggingface_hub, what its errors become, and a hand-made cache offline."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from checkpoint_samples import write_checkpoint
from huggingface_hub import errors

from saguaro.builder.checkpoint import resolve
from saguaro.builder.checkpoint.tensors import TensorStore


class Hub:
    """Stands in for snapshot_download: notes what it is asked and answers with a path or an error."""

    def __init__(self, answer: Path | Exception) -> None:
        self.answer = answer
        self.asked: list[tuple[str, str | None]] = []

    def __call__(self, repo: str, *, revision: str | None, allow_patterns: Any, ignore_patterns: Any) -> str:
        self.asked.append((repo, revision))
        self.patterns = {"allow_patterns": allow_patterns, "ignore_patterns": ignore_patterns}
        if isinstance(self.answer, Exception):
            raise self.answer
        return str(self.answer)


def install(monkeypatch: pytest.MonkeyPatch, answer: Path | Exception) -> Hub:
    hub = Hub(answer)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub)
    return hub


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("Qwen/Qwen3-0.6B", ("Qwen/Qwen3-0.6B", None)),
        ("org/name@main", ("org/name", "main")),
        ("org/name@refs/pr/3", ("org/name", "refs/pr/3")),
        ("meta-llama/Llama-3.2-1B@0123abc", ("meta-llama/Llama-3.2-1B", "0123abc")),
    ],
)
def test_hub_ids(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, asked: tuple[str, str | None]
) -> None:
    hub = install(monkeypatch, tmp_path)
    assert resolve(text) == tmp_path
    assert hub.asked == [asked]


def test_only_what_is_read_is_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = install(monkeypatch, tmp_path)
    resolve("org/name")
    wanted = ["config.json", "tokenizer.json", "model.safetensors", "model-00001-of-00002.safetensors"]
    unwanted = [
        "pytorch_model.bin",
        "modeling_evil.py",
        "original/consolidated.00.pth",
        "consolidated.safetensors",
        "onnx/model.safetensors",
        "model.gguf",
        "training_args.bin",
    ]
    from huggingface_hub.utils import filter_repo_objects

    assert list(filter_repo_objects(wanted + unwanted, **hub.patterns)) == wanted


def test_a_directory_comes_before_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = install(monkeypatch, tmp_path)
    (tmp_path / "org" / "name").mkdir(parents=True)
    assert resolve("org/name", tmp_path) == tmp_path / "org" / "name"
    assert hub.asked == []


@pytest.mark.parametrize(
    "text",
    [
        "./org/name",
        "../name",
        "name",
        "a/b/c",
        "org/na me",
        "/org/name",
        "org/name@",
        "",
        "~/no/such",
        "a\0b",
    ],
)
def test_paths_never_reach_the_hub(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, refused: Any
) -> None:
    hub = install(monkeypatch, tmp_path)
    refused(["directory" if "\0" not in text else "path"], resolve, text, tmp_path / "nowhere")
    assert hub.asked == []


def bare(kind: type[Exception]) -> Exception:
    """An instance without the HTTP response that the constructors of some releases insist on."""
    return kind.__new__(kind)


@pytest.mark.parametrize(
    ("kind", "part"),
    [
        (errors.RepositoryNotFoundError, "no such repository"),
        (errors.GatedRepoError, "HF_TOKEN"),
        (errors.RevisionNotFoundError, "'v9'"),
        (errors.HFValidationError, "no valid hub id"),
        (errors.LocalEntryNotFoundError, "check the network"),
        (ConnectionError, "check the network"),
        (errors.HfHubHTTPError, "check the network"),
    ],
)
def test_errors(monkeypatch: pytest.MonkeyPatch, kind: type[Exception], part: str, refused: Any) -> None:
    install(monkeypatch, bare(kind))
    refused(["'org/name@v9'", "is no directory", part], resolve, "org/name@v9")


def test_offline_and_not_cached(monkeypatch: pytest.MonkeyPatch, refused: Any) -> None:
    install(monkeypatch, bare(errors.LocalEntryNotFoundError))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    refused(["'org/name'", "HF_HUB_OFFLINE"], resolve, "org/name")


def cached_snapshot(home: Path) -> Path:
    """The layout of the hub cache: a snapshot of links to blobs, and a ref that names it."""
    repo = home / "hub" / "models--org--tiny"
    commit = "0123456789012345678901234567890123456789"
    snapshot, blobs = repo / "snapshots" / commit, repo / "blobs"
    write_checkpoint(blobs, shards=2)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(blobs.iterdir())):
        blob = file.rename(blobs / f"{number:040}")
        (snapshot / file.name).symlink_to(Path("..", "..", "blobs", blob.name))
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    return snapshot


def test_links_of_a_snapshot_lead_to_its_own_blobs(tmp_path: Path, refused: Any) -> None:
    snapshot = cached_snapshot(tmp_path)
    assert len(TensorStore(snapshot).files()) == 2
    shard = snapshot / "model-00001-of-00002.safetensors"
    stray = shard.resolve().rename(tmp_path / "stray")
    shard.unlink()
    shard.symlink_to(stray)
    refused([shard, "symbolic link"], TensorStore, snapshot)


OFFLINE = """
from saguaro.builder.checkpoint import open_checkpoint
from saguaro.errors import CheckpointError
for name in ("org/tiny", "org/tiny@main"):
    checkpoint = open_checkpoint(name)
    print(checkpoint.path, float(checkpoint.tensors.get("model.norm.weight").float().sum()))
for name in ("org/other", "org/tiny@v2"):
    try:
        open_checkpoint(name)
    except CheckpointError as error:
        print(error)
"""


def test_environment_variables_are_honoured(tmp_path: Path) -> None:
    snapshot = cached_snapshot(tmp_path)
    environment = {**os.environ, "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    result = subprocess.run(
        [sys.executable, "-c", OFFLINE],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    first, second, other, revision = result.stdout.splitlines()
    assert first == second
    assert first.startswith(f"{snapshot} ")
    assert "'org/other'" in other
    assert "HF_HUB_OFFLINE" in other
    assert "'org/tiny@v2'" in revision
