"""The round loop: owns the batch, and in AR lets the target take one step after another.

SD and SSD, in which a round is more than that: `speculative_rounds.py`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from time import perf_counter

from saguaro.runtime.metrics import RunMetrics
from saguaro.runtime.sequence import Sequence
from saguaro.runtime.speculation.tree import Outcome
from saguaro.runtime.timing import Lane
from saguaro.runtime.trace import Round, Trace, foreseen
from saguaro.runtime.verifier import Verifier
from saguaro.runtime.worker import Worker

ACCOUNTED = 64  # rounds whose times are summed up together


class RoundLoop:
    """Owns the batch: which sequence lies in which slot, and what happens in a round."""

    mode = "ar"
    trace: Trace | None = None  # takes in every round, where one is wanted

    def __init__(self, verifier: Verifier, target: Worker, target_lane: Lane):
        self.verifier, self.target, self.target_lane = verifier, target, target_lane
        self.draft_lane = Lane()  # nothing happens on it where there is no draft
        self.active: list[Sequence] = []
        self.metrics = RunMetrics()
        self._begin, self._leaving = 0.0, False

    def run(
        self, sequences: Iterable[Sequence], every_round: bool = True
    ) -> Iterator[tuple[Sequence, list[int]]]:
        """Generate for all sequences, several at a time; gives each one's new tokens after every round, or, which
        spares the rounds the way to the caller's thread and back, when one of them ends.

        Closing the iterator early, or an exception, leaves the loop ready for the next call.
        """
        waiting, self.metrics = deque(sequences), RunMetrics()
        self._begin, self._leaving = perf_counter(), False
        try:
            while waiting or self.active:
                size = min(self.verifier.session.max_batch_size, len(self.active) + len(waiting))
                while len(self.active) < size:
                    self._admit(waiting.popleft(), size)
                yield from zip(list(self.active), self.target.run(self._rounds, every_round), strict=True)
                for sequence in [s for s in self.active if s.finish_reason]:
                    self._retire(sequence)
        finally:
            self._leaving = True
            self._wait()
            for sequence in list(self.active):
                self._retire(sequence)
            self.metrics.seconds = perf_counter() - self._begin

    def _rounds(self, once: bool) -> list[list[int]]:
        """On the target's thread, so that nothing has to be handed over before a verification starts."""
        given: list[list[int]] = [[] for _ in self.active]
        noted = []
        while True:
            before = (0, 0) if self.trace is None else foreseen(self.active)
            start, new = perf_counter(), self._next_round()
            now = perf_counter()
            for tokens, more in zip(given, new, strict=True):
                tokens += more
            counts = (0, 0, 0) if self.trace is None else (*foreseen(self.active, before), sum(map(len, new)))
            noted.append((start, now, len(self.target_lane.noted), len(self.draft_lane.noted), counts))
            ended = once or self._leaving or any(sequence.finish_reason for sequence in self.active)
            if ended or len(noted) == ACCOUNTED:
                self._account(noted)
                noted.clear()
            if ended:
                return given

    def _account(self, noted: list[tuple[float, float, int, int, tuple[int, int, int]]]) -> None:
        """Of several rounds at once: after each, with the caches full of weights, it would take far longer.

        `noted`: of each when it began and ended, how much the lanes then held, and its hits, misses and tokens.
        """
        (_, first, *_), (_, last, *_) = noted[0], noted[-1]
        taken = [0, 0]
        for start, end, *held, counts in noted:
            target, draft = (
                lane.take(count - before)
                for lane, count, before in zip((self.target_lane, self.draft_lane), held, taken, strict=True)
            )
            taken = held
            if self.trace is not None:
                self.trace.rounds.append(Round(self.mode, start, end, target, draft, *counts))
            times = self.metrics.add_round(start, end, target, draft)
            for sequence in self.active:
                sequence.metrics.times.add(times)
        for sequence in self.active:
            sequence.metrics.seconds = last - self._begin
            sequence.metrics.time_to_first_token = sequence.metrics.time_to_first_token or first - self._begin

    def _next_round(self) -> list[list[int]]:
        return self._round()

    def _round(self) -> list[list[int]]:
        """AR: the target alone takes one step."""
        outcomes = self._verify()
        return [sequence.accept(outcome) for sequence, outcome in zip(self.active, outcomes, strict=True)]

    def _verify(self, meanwhile: Callable[[], None] | None = None) -> list[Outcome]:
        return self.target_lane.call("verification", self.verifier.verify, self.active, meanwhile)

    def _admit(self, sequence: Sequence, size: int) -> None:
        """Give the sequence the next slot and compute its prompt. `size`: of the batch, when all have entered."""
        sequence.slot = len(self.active)
        self.active.append(sequence)
        self.target.run(self.target_lane.call, "prefill", self.verifier.prefill, sequence)

    def _retire(self, sequence: Sequence) -> None:
        """Take the sequence out; the last one of the batch moves into its slot."""
        last = self.active.pop()
        if last is not sequence:
            self._move(last.slot, sequence.slot)
            last.slot = sequence.slot
            self.active[last.slot] = last

    def _move(self, source: int, target: int) -> None:
        self.target.run(self.verifier.session.move_slot, source, target)

    def _wait(self) -> None:
        """Until no job is under way; what was noted of rounds that failed is forgotten."""
        self.target.run(self.target_lane.noted.clear)
