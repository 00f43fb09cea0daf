"""What rounds have cost and brought so far: the running estimates by which `fallback: auto` decides."""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from enum import StrEnum
from statistics import median

MEMORY = 512.0  # how many of the latest observations a mean is about. A round brings its mean give or take half of it
LATEST = 16  # times that are kept of each batch size
KEPT = 2  # times that count beside those of a new trial
HICCUP = 1.5  # times the median: no round counts for longer


class Way(StrEnum):
    """How a round goes."""

    OFF = "off"  # the target alone, one token after another: nothing is drafted
    SEQUENTIAL = "sequential"  # the target verifies, and nothing is prepared meanwhile
    CONCURRENT = "concurrent"  # the draft prepares while the target verifies


class Fallback(StrEnum):
    """What the sequences of a round speculate that have nothing prepared."""

    DRAFT = "draft"  # all wait until the draft has drafted
    NGRAM = "ngram"  # what a look-up finds, without waiting; where it finds nothing, nothing
    NOTHING = "nothing"


class Mean:
    """A mean that forgets: exact over the first observations, then exponentially weighted."""

    def __init__(self, prior: float, weight: float = 4.0):
        """`weight`: how many observations the prior is worth."""
        self.value, self._weight = prior, weight

    def add(self, observed: float) -> None:
        self._weight = min(self._weight + 1, MEMORY)
        self.value += (observed - self.value) / self._weight


class Seconds:
    """Of one kind of work, by the number of sequences in the batch."""

    def __init__(self) -> None:
        self._latest: dict[int, deque[float]] = {}
        self._typical: dict[int, float] = {}
        self._sizes: list[int] = []  # in order
        self.added = 0

    def add(self, size: int, seconds: float) -> None:
        if size not in self._latest:
            self._latest[size] = deque(maxlen=LATEST)
            self._sizes.insert(bisect_left(self._sizes, size), size)
        latest = self._latest[size]
        latest.append(seconds)
        # A mean, since where two threads share cores some rounds are always longer, and they count.
        most = HICCUP * median(latest)
        self._typical[size] = sum(min(time, most) for time in latest) / len(latest)
        self.added += 1

    def age(self, size: int) -> None:
        """What comes next is to outweigh what was: the machine may have other work by now."""
        latest = self._latest.get(size, deque())
        while len(latest) > KEPT:
            latest.popleft()

    def at(self, size: int) -> float | None:
        """A typical time; of a size that was not seen, between its neighbours' or as its neighbour's; None if nothing
        was seen."""
        if size in self._typical or not self._sizes:
            return self._typical.get(size)
        place = bisect_left(self._sizes, size)
        if place in (0, len(self._sizes)):
            return self._typical[self._sizes[max(0, place - 1)]]
        low, high = self._sizes[place - 1 : place + 1]
        share = (size - low) / (high - low)
        return (1 - share) * self._typical[low] + share * self._typical[high]


class Estimates:
    """Times are seconds; tokens are those that a sequence gains in a round, the bonus token with them."""

    def __init__(self) -> None:
        self.rounds = {way: Seconds() for way in Way}  # without the wait for a fallback's draft
        self.draft = Seconds()  # that wait
        self.hit_tokens = Mean(2.5)
        self.draft_tokens = Mean(2.5)
        self.ngram_tokens = Mean(1.5)  # where the look-up found something
        self.hits = Mean(0.7)  # of the outcomes of concurrent rounds, how many were prepared
        self.found = Mean(0.5)  # of the look-ups, how many found something
