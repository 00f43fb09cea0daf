"""sha256 of an engine's files, a few at a time: hashing leaves the interpreter free."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from saguaro.errors import EngineError

THREADS = 4


def file_sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def hash_files(
    directory: Path, names: list[str], progress: Callable[[int, int], None] | None = None
) -> dict[str, dict[str, Any]]:
    """`{name: {"bytes": size, "sha256": hex}}` for files named relative to `directory`."""
    result = {}
    with ThreadPoolExecutor(THREADS) as pool:
        hashes = pool.map(lambda name: file_sha256(directory / name), names)
        for done, (name, value) in enumerate(zip(names, hashes, strict=True), start=1):
            result[name] = {"bytes": (directory / name).stat().st_size, "sha256": value}
            if progress:
                progress(done, len(names))
    return result


def check_files(directory: Path, files: dict[str, dict[str, Any]]) -> None:
    """Raise EngineError for the first file that is missing or differs from what was built.

    Names are relative to `directory`; an absolute one is a checkpoint file that the engine refers to.
    """
    for name, expected in files.items():
        path = directory / name
        if not path.is_file():
            raise EngineError(f"{path}: this file of the engine is missing; build the engine again")
        if path.stat().st_size != expected["bytes"]:
            raise EngineError(
                f"{path}: has {path.stat().st_size} bytes, expected {expected['bytes']}; build the engine again"
            )
    with ThreadPoolExecutor(THREADS) as pool:
        hashes = pool.map(lambda name: file_sha256(directory / name), files)
        for (name, expected), value in zip(files.items(), hashes, strict=True):
            if value != expected["sha256"]:
                raise EngineError(
                    f"{directory / name}: is damaged, its sha256 is {value[:12]}... where {expected['sha256'][:12]}... "
                    "was built; build the engine again"
                )
