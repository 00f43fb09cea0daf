"""The engine directory: written beside its final name and renamed when whole, verified before it is used."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from saguaro.engine.hashing import check_files, hash_files
from saguaro.engine.manifest import FORMAT_VERSION, Manifest, digest
from saguaro.engine.replace import replace_text
from saguaro.engine.statistics import STATISTICS
from saguaro.errors import EngineError

MANIFEST = "saguaro.json"
PARTIAL = ".partial"


@contextmanager
def new_engine_directory(output: Path) -> Iterator[Path]:
    """A directory beside `output` to write into; it takes `output`'s place when the block ends without an error.

    Whatever ends the block early, nothing of it is left. An earlier engine at `output` is replaced only then.
    Raises EngineError when `output` holds something that is no engine.
    """
    output = output.resolve()  # where a link leads, not the link, is replaced
    check_output(output)
    partial = output.with_name(f".{output.name}{PARTIAL}-{os.getpid()}")
    missing = [parent for parent in output.parents if not parent.exists()]
    old = output.with_name(f".{output.name}.replaced-{os.getpid()}")
    try:
        try:
            partial.mkdir(parents=True)
        except OSError as error:
            advice = "choose another output directory"
            raise EngineError(f"{output}: cannot be created ({error.strerror}); {advice}") from error
        yield partial
        if output.exists():
            output.rename(old)
        partial.rename(output)
        shutil.rmtree(old, ignore_errors=True)
    except BaseException:
        with _ctrl_c_ignored():
            if old.exists() and not output.exists():
                old.rename(output)
            shutil.rmtree(partial, ignore_errors=True)
            for parent in missing:
                with contextlib.suppress(OSError):
                    parent.rmdir()
        raise


@contextmanager
def _ctrl_c_ignored() -> Iterator[None]:
    """Who presses Ctrl-C once more because the first one takes a while would else stop the clearing up half way."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is None or threading.current_thread() is not threading.main_thread():  # then Python cannot set it back
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def check_output(output: Path) -> None:
    """Raise EngineError when writing an engine to `output` would overwrite something else."""
    if output.is_dir():
        if any(output.iterdir()) and not (output / MANIFEST).is_file():
            raise EngineError(
                f"{output}: holds files that are no Saguaro engine; name an empty or new output directory, or empty it"
            )
    elif output.exists() or output.is_symlink():
        raise EngineError(f"{output}: is a file, expected a directory to write the engine to; name another output")


def write_manifest(directory: Path, manifest: Manifest, progress: Callable[[int, int], None] | None = None) -> None:
    """Hash every file of the directory and write `saguaro.json`, the last file of a build."""
    names = sorted(str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file())
    referred = [name for entry in (manifest.target, manifest.draft) for name in entry.weight_files]
    names += sorted(name for name in referred if Path(name).is_absolute())
    manifest.files = hash_files(directory, names, progress)
    text = manifest.to_json()
    with open(directory / MANIFEST, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def rewrite_manifest(directory: Path, manifest: Manifest) -> None:
    """Put a changed `saguaro.json` in the place of the old one. No other file changes."""
    try:
        replace_text(directory / MANIFEST, manifest.to_json())
    except OSError as error:
        raise EngineError(
            f"{directory / MANIFEST}: cannot be written ({error.strerror}); check the directory"
        ) from error


def open_engine_directory(path: Path) -> Manifest:
    """Read `saguaro.json` and verify every file against its hash. Nothing is deserialised before that.

    Raises EngineError: no such directory, no engine, half built, a newer format, or damaged files.
    """
    manifest = read_manifest(path)
    there = {str(file.relative_to(path)) for file in path.rglob("*") if file.is_file()}
    extra = there - {*manifest.files, MANIFEST, STATISTICS}
    if extra:
        raise EngineError(f"{path / min(extra)}: is no file of this engine; remove it, or build the engine again")
    check_files(path, manifest.files)
    return manifest


def read_manifest(path: Path) -> Manifest:
    """The manifest alone, checked against its own digest, without hashing the other files."""
    if not path.exists():
        raise EngineError(f"{path}: no such engine directory; build it with `saguaro build`")
    if not path.is_dir():
        raise EngineError(f"{path}: is a file, expected an engine directory; build one with `saguaro build`")
    if PARTIAL in path.name:
        raise EngineError(f"{path}: is a half-built engine; remove it and build again")
    file = path / MANIFEST
    if not file.is_file():
        raise EngineError(
            f"{path}: no {MANIFEST}, so this is no engine or only half of one; build it with `saguaro build`"
        )
    try:
        values: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EngineError(f"{file}: is damaged ({error}); build the engine again") from error
    version = values.get("format_version") if isinstance(values, dict) else None
    if not isinstance(version, int):
        raise EngineError(f"{file}: no `format_version`, expected {FORMAT_VERSION}; build the engine again")
    if version > FORMAT_VERSION:
        raise EngineError(
            f"{file}: format_version is {version}, this Saguaro reads up to {FORMAT_VERSION}; "
            "upgrade Saguaro or build the engine again"
        )
    if values.get("sha256") != digest(values):
        raise EngineError(f"{file}: is damaged, its sha256 does not match its content; build the engine again")
    return Manifest.from_dict(values, str(file))
