"""What ran when, round by round, as a file that chrome://tracing and Perfetto open (Chrome trace format)."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from saguaro.engine.replace import replace_text
from saguaro.errors import ConfigError
from saguaro.runtime.sequence import Sequence
from saguaro.runtime.timing import Span

TARGET, DRAFT = 1, 2  # the threads of a mode's process
Event = dict[str, Any]


class Round(NamedTuple):
    """Seconds of `time.perf_counter`; the spans are the lanes' own since the round before."""

    mode: str
    start: float
    end: float
    target: list[Span]
    draft: list[Span]
    hits: int  # outcomes that were prepared
    misses: int
    tokens: int  # of all sequences

    @property
    def name(self) -> str:
        """In a batch, one miss makes all wait."""
        return "miss" if self.misses else "hit" if self.hits else "round"


class Trace:
    """Takes rounds in as they are, since a round is short; events are made of them when the file is written."""

    def __init__(self) -> None:
        self.rounds: list[Round] = []

    def write(self, file: Path) -> None:
        """Replaces `file` once the whole trace is written beside it. Times are microseconds since the first span."""
        replace_text(file, json.dumps({"traceEvents": list(self._events()), "displayTimeUnit": "ms"}))

    def _events(self) -> Iterator[Event]:
        """One process per mode, with a thread for each model; a round lies on the target's, around what it did."""
        processes = {mode: pid for pid, mode in enumerate(dict.fromkeys(r.mode for r in self.rounds), start=1)}
        for mode, pid in processes.items():
            yield _label("process_name", mode, pid)
            yield _label("thread_name", "target", pid, TARGET)
            if mode != "ar":
                yield _label("thread_name", "draft", pid, DRAFT)
        starts = [start for r in self.rounds for start in (r.start, *(span.start for span in [*r.target, *r.draft]))]
        zero = min(starts, default=0.0)
        for r in self.rounds:
            pid = processes[r.mode]
            args = {"tokens": r.tokens, "hits": r.hits, "misses": r.misses}
            yield {**_complete(Span(r.name, r.start, r.end), "round", zero, pid, TARGET), "args": args}
            for tid, category, spans in ((TARGET, "target", r.target), (DRAFT, "draft", r.draft)):
                for span in spans:
                    yield _complete(span, category, zero, pid, tid)


def foreseen(sequences: Iterable[Sequence], before: tuple[int, int] = (0, 0)) -> tuple[int, int]:
    """Hits and misses of the sequences so far, without those `before`."""
    hits, misses = -before[0], -before[1]
    for sequence in sequences:
        hits += sequence.metrics.hits
        misses += sequence.metrics.misses
    return hits, misses


def check_place(file: Path) -> Path:
    """Before anything is measured. Raises ConfigError where the file cannot be written."""
    if not file.parent.is_dir():
        raise ConfigError(f"{file}: there is no directory {file.parent} to write the trace to; make it first")
    if file.is_dir():
        raise ConfigError(f"{file}: this is a directory; name a file to write the trace to, such as {file}/trace.json")
    if not os.access(file.parent, os.W_OK):
        raise ConfigError(f"{file}: the directory {file.parent} is not writable; name another place for the trace")
    return file


def _label(kind: str, name: str, pid: int, tid: int = 0) -> Event:
    return {"name": kind, "ph": "M", "pid": pid, "tid": tid, "args": {"name": name}}


def _complete(span: Span, category: str, zero: float, pid: int, tid: int) -> Event:
    return {
        "name": span.name,
        "cat": category,
        "ph": "X",
        "ts": (span.start - zero) * 1e6,
        "dur": span.seconds * 1e6,
        "pid": pid,
        "tid": tid,
    }
