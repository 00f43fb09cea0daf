"""Opening files of a checkpoint without trusting them: names stay inside it, JSON is bounded and whole."""

from __future__ import annotations

import json
import os
import reprlib
from pathlib import Path
from typing import Any

from saguaro.errors import CheckpointError

_shorten = reprlib.Repr()
_shorten.maxstring = _shorten.maxother = 80
_shorten.maxlong = 40


def shown(value: object) -> str:
    """A value from an untrusted file as an error sentence may quote it: escaped, on one line, short."""
    return _shorten.repr(value)


def member(directory: Path, name: object, source: Path | str) -> Path:
    """The path of file `name` in `directory`; `source` is the file that named it, for the error.

    Raises CheckpointError unless `name` is a bare file name and, symbolic links followed, lies in `directory`
    (or in the `blobs` folder beside it when `directory` is a snapshot in the Hugging Face cache, which
    consists of such links). The file itself need not exist.
    """
    # Unprintable covers NUL, line breaks and lone surrogates; no file system takes more than 255 characters.
    bare = isinstance(name, str) and name.isprintable() and not any(c in name for c in "/\\")
    if not isinstance(name, str) or not bare or name in ("", ".", "..") or len(name) > 255:
        raise CheckpointError(
            f"{source}: the file name {shown(name)} is not allowed, expected a bare name such as "
            "'model-00001-of-00002.safetensors' in the same directory; "
            "correct it or download the checkpoint again"
        )
    root = Path(os.path.realpath(directory))
    real = Path(os.path.realpath(root / name))
    homes = [root]
    if root.parent.name == "snapshots" and root.parent.parent.name.startswith("models--"):
        homes.append(root.parent.parent / "blobs")
    if not any(real.is_relative_to(home) for home in homes):
        raise CheckpointError(
            f"{directory / name}: it is a symbolic link to {real}, outside the checkpoint; "
            "put the file itself into the directory"
        )
    return directory / name


def is_regular(path: Path) -> bool:
    """Whether a regular file is there. A pipe or device would block or never end, so it does not count."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def read_json(path: Path, limit: int) -> dict[str, Any]:
    """The JSON object in `path`. Raises CheckpointError when unreadable, over `limit` bytes or no object."""
    try:
        size = path.stat().st_size
        if size > limit:
            raise CheckpointError(
                f"{path}: {size:,} bytes is too large for this file, expected at most {limit:,}; "
                "download the checkpoint again"
            )
        text = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    return parse_object(text, str(path))


def unreadable(path: Path, error: OSError) -> CheckpointError:
    """The sentence for a file that the operating system would not read."""
    return CheckpointError(f"{path}: cannot be read ({error.strerror}); check that it is there and readable")


def parse_object(text: bytes, source: str) -> dict[str, Any]:
    """JSON bytes as a dict in which no key came twice. `source` names the file in the error."""
    try:
        value = json.loads(text.decode("utf-8"), object_pairs_hook=_without_repeats)
    except RecursionError as error:
        raise CheckpointError(f"{source}: JSON nested too deeply; download the checkpoint again") from error
    except ValueError as error:  # not UTF-8, not JSON, a repeated key, an integer of thousands of digits
        raise CheckpointError(f"{source}: not valid JSON ({error}); download the checkpoint again") from error
    if not isinstance(value, dict):
        raise CheckpointError(
            f"{source}: holds {shown(value)}, expected a JSON object; download the checkpoint again"
        )
    return value


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Readers differ in which of two equal keys they take, so a file with both has no one meaning."""
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {shown(repeated)} comes twice")
    return result
