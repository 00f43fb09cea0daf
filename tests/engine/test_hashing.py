"""sha256 of files, and what is said of one that differs from what was built."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from saguaro.engine.hashing import check_files, file_sha256, hash_files
from saguaro.errors import EngineError

CONTENTS = {"a": b"", "b/c": b"\x00" * 3_000_000, "d": b"text"}


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    for name, content in CONTENTS.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    return tmp_path


def test_hashes(directory: Path) -> None:
    seen: list[tuple[int, int]] = []
    files = hash_files(directory, list(CONTENTS), lambda done, total: seen.append((done, total)))
    assert list(files) == list(CONTENTS)
    for name, content in CONTENTS.items():
        assert files[name] == {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
        assert file_sha256(directory / name) == files[name]["sha256"]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    check_files(directory, files)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("d", b"texT", ["d", "damaged"]),
        ("d", b"text!", ["d", "has 5 bytes, expected 4"]),
        ("b/c", b"\x00" * 2_999_999 + b"\x01", ["b/c", "damaged"]),
        ("a", b"x", ["a", "has 1 bytes, expected 0"]),
        ("d", None, ["d", "missing"]),
    ],
)
def test_what_differs(directory: Path, name: str, content: bytes | None, words: list[str]) -> None:
    files = hash_files(directory, list(CONTENTS))
    (directory / name).unlink()
    if content is not None:
        (directory / name).write_bytes(content)
    with pytest.raises(EngineError) as caught:
        check_files(directory, files)
    assert str(caught.value).startswith(f"{directory / name}: ")
    assert all(word in str(caught.value) for word in words)


def test_a_directory_where_a_file_was(directory: Path) -> None:
    files = hash_files(directory, ["d"])
    (directory / "d").unlink()
    (directory / "d").mkdir()
    with pytest.raises(EngineError, match="missing"):
        check_files(directory, files)


def test_absolute_names_are_files_elsewhere(
    directory: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A checkpoint's files that an engine refers to instead of copying them."""
    elsewhere = tmp_path_factory.mktemp("checkpoint") / "model.safetensors"
    elsewhere.write_bytes(b"weights")
    files = hash_files(directory, ["d", str(elsewhere)])
    check_files(directory, files)
    elsewhere.write_bytes(b"Weights")
    with pytest.raises(EngineError, match="damaged"):
        check_files(directory, files)
