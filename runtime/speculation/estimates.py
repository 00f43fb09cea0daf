"""What rounds have cost and brought so far: the running estimates by which `fallback: auto` decides."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict, deque
from enum import StrEnum
from statistics import median
from typing import NamedTuple

MEMORY = 512.0  # how many of the latest observations a mean is about. A round brings its mean give or take half of it
LATEST = 48  # times that are kept of each batch size
KEPT = 2  # times that count beside those of a new trial
HICCUP = 1.5  # times the median: no round counts for longer


class Way(StrEnum):
    """How a round goes."""

    OFF = "off"  # the target alone, one token after another: nothing is drafted
    SEQUENTIAL = "sequential"  # the target verifies, and nothing is prepared meanwhile
    CONCURRENT = "concurrent"  # the draft prepares while the target verifies


class Plan(NamedTuple):
    """A way, and the most tokens of a speculation that are verified in it; 0 where nothing is drafted."""

    way: Way
    lookahead: int


OFF = Plan(Way.OFF, 0)


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


class Acceptance:
    """What rounds with one kind of speculation bring, by the lookahead."""

    def __init__(self, lookahead: int, prior: float):
        """`prior`: the chance of each token to be accepted when those before it are."""
        self.rates = [Mean(prior) for _ in range(lookahead)]  # a token that was not there counts as rejected
        self._tokens: list[float] = []

    def add(self, tokens: int, lookahead: int) -> None:
        """A round that might have verified so many brought `tokens`, the bonus token with them."""
        for place, rate in enumerate(self.rates[: min(tokens, lookahead)]):
            rate.add(place < tokens - 1)
        self._tokens.clear()

    def tokens(self, lookahead: int) -> float:
        """That a round is expected to bring, the bonus token with them."""
        if not self._tokens:
            reached, expected = 1.0, 1.0
            self._tokens.append(expected)
            for rate in self.rates:
                reached *= rate.value
                expected += reached
                self._tokens.append(expected)
        return self._tokens[lookahead]


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

    def __init__(self, lookahead: int) -> None:
        """`lookahead`: the longest."""
        self.rounds: defaultdict[Plan, Seconds] = defaultdict(Seconds)  # without the wait for a fallback's draft
        self.draft = Seconds()  # that wait, for each token that is drafted
        self.hit = Acceptance(lookahead, 0.65)
        self.drafted = Acceptance(lookahead, 0.65)
        self.ngram = Acceptance(lookahead, 0.4)  # where the look-up found something
        self.hits = Mean(0.7)  # of the outcomes of concurrent rounds, how many were prepared
        self.found = Mean(0.5)  # of the look-ups, how many found something
