"""A trial of another way under `fallback: auto`: some rounds that go that way, and when they have shown enough."""

from __future__ import annotations

from collections.abc import Callable

from saguaro.runtime.speculation.estimates import Estimates, Plan

TIMED = 4  # rounds of a trial that are to be timed
LONGEST = 20  # rounds until so many are timed, at most: not all are
TURN = 16  # rounds after which two lookaheads change: each needs a dozen to reach its speed
TURNS = 3  # of the two, in a trial
QUICKER = 0.97  # of its time before: a way that falls below it in a trial has not shown yet what it can do
CLEAR = 0.75  # of the usual way's speed: what a trial finds to be slower than that is slower


class Trial:
    """Of a way at one batch size. Two lookaheads of one way take turns, since what tells them apart is less than what
    a machine changes by meanwhile."""

    def __init__(self, way: Plan, usual: Plan, size: int, estimates: Estimates):
        """What was known of the way's times counts for less from now on."""
        self.way, self.usual, self.size = way, usual, size
        self.rounds = 1
        self._times = estimates.rounds[way]
        self._times.age(size)
        self._enough, self._left = self._times.added + TIMED, LONGEST
        self._before: float | None = None  # what a round took when there were last enough
        if self.in_turns:
            estimates.rounds[usual].age(size)
            self._left = TURN * TURNS

    @property
    def in_turns(self) -> bool:
        return self.way.way is self.usual.way

    def plan(self) -> Plan:
        """Of the round to come."""
        return self.usual if self.in_turns and (self.rounds - 1) // TURN % 2 else self.way

    def goes_on(self, speeds: Callable[[int], dict[Plan, float]]) -> bool:
        """For one more round. `speeds` gives, for a batch size, what is known of each way's."""
        self._left -= 1
        self.rounds += 1
        if self._left <= 0:
            return False
        if self.in_turns and self.rounds % TURN == 1 and self.plan() == self.way:
            self._times.age(self.size)  # what its first turn showed was on the way to its speed
        if self._times.added < self._enough:
            return True
        known = speeds(self.size)
        if known.get(self.way, 0.0) < CLEAR * known.get(self.usual, 0.0):
            return False
        return self.in_turns or self._faster()

    def _faster(self) -> bool:
        """A way goes on while it becomes faster: a core whose neighbour falls idle, or whose caches were full of
        another model, takes a dozen rounds to reach its speed."""
        now = self._times.at(self.size)
        if now is None or (self._before is not None and now > QUICKER * self._before):
            return False
        self._before, self._enough, self._left = now, self._times.added + TIMED, LONGEST
        self._times.age(self.size)
        return True
