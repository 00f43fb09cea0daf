"""Prompts from options, standard input and JSONL files."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from saguaro.errors import RequestError


def prompt_text(prompt: str | None, file: Path | None) -> str:
    """The prompt of `generate`, less one newline at a file's or pipe's end: editors and `echo` add it."""
    if prompt is not None and file is not None:
        raise click.UsageError("give --prompt or --prompt-file, not both")
    if prompt is not None:
        return prompt
    if file is not None:
        return _read(file).removesuffix("\n")
    if sys.stdin.isatty():
        raise click.UsageError("give a prompt: --prompt, --prompt-file, or standard input")
    try:
        return sys.stdin.buffer.read().decode().removesuffix("\n")
    except UnicodeDecodeError as error:
        raise RequestError("standard input is not UTF-8 text; give the prompt as text") from error


@dataclass(frozen=True)
class PromptLine:
    """A prompt and where it stands, for messages about it."""

    prompt: str | list[dict[str, Any]]
    place: str


def read_prompts(file: Path) -> list[PromptLine]:
    """Lines of `{"prompt": "..."}` or `{"messages": [...]}`; blank lines are skipped.

    Raises RequestError, one sentence with the file and the line's number.
    """
    prompts = [
        _prompt_line(line, f"{file}, line {number}")
        for number, line in enumerate(_read(file).split("\n"), 1)
        if line.strip()
    ]
    if not prompts:
        raise RequestError(f'{file}: no prompts in it; add lines such as {{"prompt": "def f("}}')
    return prompts


def _prompt_line(line: str, place: str) -> PromptLine:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{place}: not JSON ({error}); write one object on each line") from error
    text = value.get("prompt") if isinstance(value, dict) else None
    messages = value.get("messages") if isinstance(value, dict) else None
    if isinstance(text, str) and text and messages is None:
        return PromptLine(text, place)
    good = isinstance(messages, list) and all(
        isinstance(message, dict)
        and isinstance(message.get("role"), str)
        and isinstance(message.get("content"), str)
        for message in messages
    )
    if good and messages and text is None:
        return PromptLine(messages, place)
    raise RequestError(
        f'{place}: expected {{"prompt": "..."}} or {{"messages": [{{"role": "user", "content": "..."}}]}}, '
        f"found {line.strip()[:80]}; correct it"
    )


def _read(file: Path) -> str:
    try:
        return file.read_bytes().decode()
    except FileNotFoundError as error:
        raise RequestError(f"{file}: no such file; correct the path") from error
    except UnicodeDecodeError as error:
        raise RequestError(f"{file}: not UTF-8 text; expected prompts as text; check the path") from error
    except OSError as error:
        raise RequestError(f"{file}: cannot be read ({error.strerror}); check the path") from error
