"""The engine directory: whole or absent when written, and verified before anything in it is deserialised."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import saguaro
from saguaro import LLM
from saguaro.engine import directory as engine_directory
from saguaro.engine.directory import MANIFEST, new_engine_directory, open_engine_directory, read_manifest
from saguaro.engine.manifest import FORMAT_VERSION, digest
from saguaro.errors import EngineError
from tests.support.checkpoints import make_checkpoint


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("built")
    checkpoint = str(make_checkpoint(root / "model", num_hidden_layers=1))
    return saguaro.build(
        target=checkpoint, draft=checkpoint, output=root / "engine", enforce_eager=True, max_seq_len=64
    )


@pytest.fixture
def engine(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(built, tmp_path / "engine"))


def refused(call: Callable[[], object], *words: str | Path) -> None:
    with pytest.raises(EngineError) as caught:
        call()
    sentence = str(caught.value)
    assert "\n" not in sentence
    for word in words:
        assert str(word) in sentence


def rewrite(engine: Path, **changes: Any) -> None:
    """Change the manifest, with a digest that fits."""
    values = json.loads((engine / MANIFEST).read_text()) | changes
    values["sha256"] = digest(values)
    (engine / MANIFEST).write_text(json.dumps(values))


def test_a_whole_engine_opens(engine: Path) -> None:
    manifest = open_engine_directory(engine)
    on_disk = {str(path.relative_to(engine)) for path in engine.rglob("*") if path.is_file()}
    assert set(manifest.files) == on_disk - {MANIFEST}
    assert manifest.to_dict() == json.loads((engine / MANIFEST).read_text())
    assert {name.split("/")[0] for name in manifest.files} == {"target", "draft", "tokenizer"}


def test_written_beside_and_renamed(tmp_path: Path) -> None:
    output = tmp_path / "new" / "engine"
    with new_engine_directory(output) as partial:
        (partial / "file").write_text("x")
        assert not output.exists()
        assert partial.parent == output.parent  # the same file system, so that renaming is one step
    assert [path.name for path in output.parent.iterdir()] == ["engine"]
    assert (output / "file").read_text() == "x"


@pytest.mark.parametrize("error", [ValueError("x"), KeyboardInterrupt(), SystemExit(1)])
def test_a_failing_block_leaves_nothing(tmp_path: Path, error: BaseException) -> None:
    def fail() -> None:
        with new_engine_directory(tmp_path / "engine") as partial:
            (partial / "file").write_text("x")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_a_second_ctrl_c_does_not_stop_the_clearing_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    remove = shutil.rmtree

    def interrupted(*arguments: Any, **options: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        remove(*arguments, **options)

    before = signal.getsignal(signal.SIGINT)
    monkeypatch.setattr(shutil, "rmtree", interrupted)
    with pytest.raises(KeyboardInterrupt, match="the first"), new_engine_directory(tmp_path / "e"):
        raise KeyboardInterrupt("the first")
    assert list(tmp_path.iterdir()) == []
    assert signal.getsignal(signal.SIGINT) is before


def test_an_engine_is_replaced_only_by_a_whole_one(engine: Path) -> None:
    with pytest.raises(ValueError, match="half way"), new_engine_directory(engine):
        raise ValueError("half way")
    open_engine_directory(engine)
    with new_engine_directory(engine) as partial:
        (partial / MANIFEST).write_text("new")
    assert [path.name for path in engine.iterdir()] == [MANIFEST]
    assert [path.name for path in engine.parent.iterdir()] == ["engine"]


def test_only_engines_and_empty_directories_are_written_over(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with new_engine_directory(tmp_path / "empty") as partial:
        (partial / "file").touch()
    assert (tmp_path / "empty" / "file").exists()
    other, file = tmp_path / "other", tmp_path / "file"
    other.mkdir()
    (other / "thesis.tex").write_text("precious")
    file.write_text("precious")
    refused(lambda: new_engine_directory(other).__enter__(), other, "holds files", "empty")
    refused(lambda: new_engine_directory(file).__enter__(), file, "is a file", "another")
    assert (other / "thesis.tex").read_text() == file.read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "file", "other"]


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    refused(
        lambda: new_engine_directory(tmp_path / "file" / "engine").__enter__(),
        tmp_path / "file",
        "cannot be created",
    )


def test_an_output_that_is_a_link_to_an_empty_directory(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with new_engine_directory(tmp_path / "link") as partial:
        (partial / "file").touch()
    assert (tmp_path / "link" / "file").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "real"]


def test_a_failing_rename_puts_the_old_engine_back(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def failing(path: Path, target: Path) -> Path:
        if ".partial" in path.name:
            raise KeyboardInterrupt
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(KeyboardInterrupt), new_engine_directory(engine) as partial:
        (partial / MANIFEST).write_text("new")
    open_engine_directory(engine)


def test_a_failing_build_leaves_no_parents(built: Path, tmp_path: Path) -> None:
    checkpoint = str(built.parent / "model")
    with pytest.raises(saguaro.errors.ConfigError, match="max_seq_len"):
        saguaro.build(target=checkpoint, draft=checkpoint, output=tmp_path / "a" / "b" / "c", max_seq_len=5000)
    assert list(tmp_path.iterdir()) == []


def test_a_flipped_byte_anywhere(engine: Path) -> None:
    """The first, a middle and the last byte of every file, `saguaro.json` too."""
    files = sorted(path for path in engine.rglob("*") if path.is_file())
    assert len(files) >= 5
    for file in files:
        whole = file.read_bytes()
        for place in (0, len(whole) // 2, len(whole) - 1):
            for flip in (0x01, 0xFF):
                damaged = bytearray(whole)
                damaged[place] ^= flip
                file.write_bytes(damaged)
                refused(lambda: open_engine_directory(engine), file, "build the engine again")
        file.write_bytes(whole)
    open_engine_directory(engine)


def test_no_flipped_bit_gives_another_manifest(engine: Path) -> None:
    """A bit of every third byte. `1E-06` for `1e-06` is the same manifest; all else is refused in words."""
    file = engine / MANIFEST
    whole, manifest = file.read_bytes(), read_manifest(engine)
    same = 0
    for place in range(0, len(whole), 3):
        damaged = bytearray(whole)
        damaged[place] ^= 1 << place % 8
        file.write_bytes(damaged)
        try:
            assert read_manifest(engine) == manifest
            same += 1
        except EngineError:
            refused(lambda: read_manifest(engine), file)
    assert same <= 4


@pytest.mark.parametrize("name", ["target/weights.safetensors", "tokenizer/tokenizer.json"])
def test_missing_and_cut_files(engine: Path, name: str) -> None:
    file = engine / name
    whole = file.read_bytes()
    file.write_bytes(whole[:-1])
    refused(lambda: open_engine_directory(engine), file, f"{len(whole) - 1} bytes", str(len(whole)))
    file.unlink()
    refused(lambda: open_engine_directory(engine), file, "missing")


def test_a_newer_format(engine: Path) -> None:
    """Also when its fields are unknown here: the version is what is said."""
    rewrite(engine, format_version=FORMAT_VERSION + 1, surprising={"new": 1})
    refused(lambda: LLM(engine), engine / MANIFEST, f"format_version is {FORMAT_VERSION + 1}", "upgrade")


@pytest.mark.parametrize("version", [None, "1", 1.0, [1]])
def test_no_format_version(engine: Path, version: object) -> None:
    rewrite(engine, format_version=version)
    refused(lambda: read_manifest(engine), engine / MANIFEST, "format_version")


@pytest.mark.parametrize("text", ["", "[]", "null", "{", '"x"', "{}", "\udcff"])
def test_a_manifest_that_is_none(engine: Path, text: str) -> None:
    (engine / MANIFEST).write_bytes(text.encode(errors="surrogateescape"))
    refused(lambda: LLM(engine), engine / MANIFEST, "build the engine again")


def test_fields_that_are_missing(engine: Path) -> None:
    values = json.loads((engine / MANIFEST).read_text())
    rewrite(engine, target={name: value for name, value in values["target"].items() if name != "rows"})
    refused(lambda: read_manifest(engine), engine / MANIFEST, "rows")


def test_half_built(engine: Path, tmp_path: Path) -> None:
    (engine / MANIFEST).unlink()
    refused(lambda: LLM(engine), engine, "half")
    with new_engine_directory(tmp_path / "other") as partial:
        shutil.copytree(engine, partial, dirs_exist_ok=True)
        (partial / MANIFEST).write_text("{}")
        refused(lambda: LLM(partial), partial, "half-built")
    refused(lambda: LLM(tmp_path / "nothing"), "no such engine directory", "saguaro build")
    (tmp_path / "file").touch()
    refused(lambda: LLM(tmp_path / "file"), "is a file")


def test_verified_before_anything_is_deserialised(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    check = engine_directory.check_files

    def note(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*arguments: Any, **options: Any) -> Any:
            order.append(name)
            return call(*arguments, **options)

        return noted

    monkeypatch.setattr(engine_directory, "check_files", note("check", check))
    monkeypatch.setattr(saguaro.llm, "load_tokenizer", note("tokenizer", saguaro.llm.load_tokenizer))
    monkeypatch.setattr(saguaro.llm, "load_session", note("session", saguaro.llm.load_session))
    LLM(engine).close()
    assert order == ["check", "tokenizer", "session"]
    for file in (engine / "target").iterdir():
        file.write_bytes(file.read_bytes()[:-1] + b"!")
    order.clear()
    refused(lambda: LLM(engine), "damaged")
    assert order == ["check"]
