"""Where the time of a round goes: spans on the target's and the draft's lane."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from time import perf_counter
from typing import NamedTuple, TypeVar

import torch

from saguaro.runtime.sessions.rollout import RollingSession, Rollout, rolls_out
from saguaro.runtime.sessions.session import Session, Step

R = TypeVar("R")


class Span(NamedTuple):
    """Seconds of `time.perf_counter`. `name`: forward, prefill, verification, preparation, fallback, settle."""

    name: str
    start: float
    end: float

    @property
    def seconds(self) -> float:
        return self.end - self.start


class Lane:
    """What one model did, in the order in which it ended. Written by its worker, read between rounds."""

    def __init__(self) -> None:
        self.noted: list[Span | Rollout] = []  # a rollout stands for its forward passes
        self.seconds = 0.0  # that the latest call took

    def call(self, name: str, function: Callable[..., R], *arguments: object) -> R:
        start = perf_counter()
        result = function(*arguments)
        end = perf_counter()
        self.seconds = end - start
        self.noted.append(Span(name, start, end))
        return result

    def take(self, count: int) -> list[Span]:
        """Of the first `count` entries. They leave the lane, which keeps what its worker notes meanwhile."""
        taken, self.noted[:count] = self.noted[:count], []
        return list(chain.from_iterable([one] if isinstance(one, Span) else forwards(one) for one in taken))


def forwards(rollout: Rollout) -> list[Span]:
    return [Span("forward", *rollout.times(depth)) for depth in range(rollout.progress.drafted)]


def named(spans: Iterable[Span], *names: str) -> list[Span]:
    return [span for span in spans if span.name in names]


class TimedSession:
    """A session that notes each forward on a lane. On a CUDA device that is the time of its launch."""

    def __init__(self, session: Session, lane: Lane):
        self._session, self._lane = session, lane
        self.device, self.vocab_size = session.device, session.vocab_size
        self.max_batch_size, self.rows = session.max_batch_size, session.rows
        self.move_rows, self.move_slot, self.close = session.move_rows, session.move_slot, session.close

    def forward(self, step: Step) -> torch.Tensor:
        return self._lane.call("forward", self._session.forward, step)


class TimedRollingSession(TimedSession):
    """For a session that runs rollouts by itself."""

    _session: RollingSession

    def roll_out(self, rollout: Rollout) -> None:
        self._session.roll_out(rollout)
        self._lane.noted.append(rollout)


def timed(session: Session, lane: Lane) -> Session:
    """The session, its forwards noted on the lane."""
    return TimedRollingSession(session, lane) if rolls_out(session) else TimedSession(session, lane)


def overlap(spans: Iterable[Span], others: Iterable[Span]) -> float:
    """Seconds that lie in a span of each kind; spans of one kind do not overlap each other."""
    others = list(others)
    return sum(max(0.0, min(a.end, b.end) - max(a.start, b.start)) for a in spans for b in others)


def covered(spans: Iterable[Span]) -> float:
    """Seconds that lie in at least one span."""
    total, reached = 0.0, float("-inf")
    for span in sorted(spans, key=lambda s: s.start):
        total += max(0.0, span.end - max(span.start, reached))
        reached = max(reached, span.end)
    return total
