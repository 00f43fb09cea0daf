"""The prompts: beginnings of functions and classes from the held-out files."""

import ast
import hashlib
import json
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from .corpus import Document

COUNT = 40
MOST_OF_ONE_FILE = 3
SHORTEST, LONGEST = 10, 120  # tokens
Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef


def beginnings(document: Document) -> Iterator[str]:
    """For every definition of the file one beginning: its header, its docstring, or part of its body."""
    lines = document.text.split("\n")
    for node in ast.walk(ast.parse(document.text)):
        if not isinstance(node, Definition) or len(node.body) < 2:
            continue
        first = min([node.lineno, *(one.lineno for one in node.decorator_list)])
        cut = int(hashlib.sha256(f"{document.path}:{node.name}".encode()).digest()[0]) % 3
        if cut == 0:
            last = node.body[0].lineno - 1
        elif cut == 1 and ast.get_docstring(node):
            last = node.body[0].end_lineno or node.lineno
        else:
            last = node.body[min(1, len(node.body) - 2)].end_lineno or node.lineno
        text = textwrap.dedent("\n".join(lines[first - 1 : last])).rstrip()
        if text and "\n\n\n" not in text:
            yield text


def squeeze(text: str) -> str:
    """Without differences of indentation, to find a dedented method in its file."""
    return " ".join(text.split())


def candidates(
    held_out: Sequence[Document], training: Sequence[Document], words: PreTrainedTokenizerFast
) -> list[tuple[str, str]]:
    """Path and text of every beginning that no training file contains, in an order that means nothing."""
    seen = " ".join(squeeze(one.text) for one in training)
    found: list[tuple[str, str, str]] = []
    for document in held_out:
        for text in beginnings(document):
            if "def test" in text.partition("(")[0] or text.startswith("def __init__"):
                continue  # there are hundreds, all alike
            if SHORTEST <= len(words(text).input_ids) <= LONGEST and squeeze(text) not in seen:
                found.append((hashlib.sha256(text.encode()).hexdigest(), document.path, text))
    return [(path, text) for _, path, text in sorted(found)]


def choose_prompts(
    held_out: Sequence[Document], training: Sequence[Document], words: PreTrainedTokenizerFast
) -> list[str]:
    """`COUNT` different prompts that no training file contains, the same ones every time."""
    chosen: list[str] = []
    used: dict[str, int] = {}
    headers: set[str] = set()
    for path, text in candidates(held_out, training, words):
        header = text.split("\n")[0]
        if used.get(path, 0) < MOST_OF_ONE_FILE and header not in headers:
            chosen.append(text)
            used[path] = used.get(path, 0) + 1
            headers.add(header)
    if len(chosen) < COUNT:
        raise ValueError(f"only {len(chosen)} prompts in the held-out files")
    return chosen[:COUNT]


def write_prompts(prompts: Sequence[str], file: Path) -> None:
    """One JSON object a line."""
    file.write_text("".join(json.dumps({"prompt": one}) + "\n" for one in prompts), encoding="utf-8")


def read_prompts(file: Path) -> list[str]:
    """The reverse of `write_prompts`."""
    return [json.loads(line)["prompt"] for line in file.read_text(encoding="utf-8").splitlines()]
