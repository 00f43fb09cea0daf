"""Which way the rounds of a batch go under `fallback: auto`: on with the best known, and now and then a trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from saguaro.runtime.speculation.estimates import Estimates, Way
from saguaro.runtime.speculation.fallback import way_speeds

PLAIN = 1.05  # so much plain decoding counts: leaving it and coming back costs, and no batch is to be slower than AR
MARGIN = 0.02  # by how much another way must be faster to be gone over to: less is not worth the change
PERIOD = 8  # rounds between two comparisons
FIRST = 32  # rounds before a batch of one tries another way; larger ones, where drafting gains less, try earlier
TIMED = 4  # rounds of a trial that are to be timed
LONGEST = 8  # rounds until so many are timed, at most: not all can be
QUICKER = 0.97  # of its time before: a way that falls below it in a trial has not shown yet what it can do
PAUSE = 64  # rounds after a trial before the same way is tried again because it looks better
GROWING = 3  # trials at growing distances, before what they cost decides about the distance
CLEAR = 0.75  # of the usual way's speed: what a trial finds to be slower than that is slower
SHARE = 0.004  # of the time that the trials of one way may cost from then on


@dataclass
class Trial:
    """Rounds in another way, until enough of them have been timed."""

    way: Way
    size: int
    enough: int
    left: int = LONGEST
    before: float | None = None  # what a round of it took when it was last prolonged


@dataclass
class Size:
    """What is known of one batch size."""

    way: Way
    rounds: int = 0
    tried: dict[Way, int] = field(default_factory=dict)  # when each way was, the last time


@dataclass
class Schedule:
    """When each way is to be tried; sizes that differ by less than a factor of two share one, as trials cost."""

    due: dict[Way, int]
    rounds: int = 0
    trials: dict[Way, int] = field(default_factory=dict)


class Ways:
    """The choice among some ways, for every batch size by itself.

    A trial comes before every change, since what is known of other ways may be old: the machine may have become slower
    meanwhile, and that for all of them.
    """

    def __init__(self, ways: Sequence[Way], estimates: Estimates):
        """`ways`: the one to begin with comes last."""
        self.ways, self.estimates = tuple(ways), estimates
        self.sizes: dict[int, Size] = {}
        self._schedules: dict[int, Schedule] = {}
        self._trial: Trial | None = None

    @property
    def trying(self) -> bool:
        """Whether the latest round is one of a trial."""
        return self._trial is not None

    def usual(self, size: int) -> Way:
        """The way of a batch of `size` sequences, trials aside."""
        return self._known(size).way

    def next(self, size: int) -> Way:
        """The way of the next round of a batch of `size` sequences."""
        known = self._known(size)
        known.rounds += 1
        self._schedule(size).rounds += 1
        if self._trial:
            if self._goes_on(self._trial, size):
                return self._trial.way
            self._end(self._trial)
        wanted = self._wanted(known, size) if known.rounds % PERIOD == 0 else None
        if wanted:
            times = self.estimates.rounds[wanted]
            times.age(size)
            self._trial = Trial(wanted, size, times.added + TIMED)
        return wanted or known.way

    def _known(self, size: int) -> Size:
        """Of a size that was not seen, what other sizes taught holds until it is known."""
        if size not in self.sizes:
            speeds = self._speeds(size)
            best = max(speeds, key=speeds.__getitem__) if len(speeds) == len(self.ways) else self.ways[-1]
            self.sizes[size] = Size(best)
        return self.sizes[size]

    def _schedule(self, size: int) -> Schedule:
        group = size.bit_length()
        if group not in self._schedules:
            self._schedules[group] = Schedule({way: _first(size) * (i + 1) for i, way in enumerate(self.ways)})
        return self._schedules[group]

    def _wanted(self, known: Size, size: int) -> Way | None:
        """Another way whose trial is due, or that looks better."""
        speeds, schedule = self._speeds(size), self._schedule(size)
        for way in self.ways:
            rested = known.rounds - known.tried.get(way, -PAUSE) >= PAUSE
            due = schedule.rounds >= schedule.due[way] or (rested and _better(speeds, way, known.way))
            if due and way != known.way:
                return way
        return None

    def _goes_on(self, trial: Trial, size: int) -> bool:
        trial.left -= 1
        if size != trial.size or trial.left <= 0:
            return False
        return self.estimates.rounds[trial.way].added < trial.enough or self._prolonged(trial)

    def _prolonged(self, trial: Trial) -> bool:
        """A way that is not clearly slower goes on while it becomes faster: a core whose neighbour falls idle, or whose
        caches were full of another model, takes a dozen rounds to reach its speed."""
        times, speeds = self.estimates.rounds[trial.way], self._speeds(trial.size)
        now, usual = times.at(trial.size), speeds.get(self.sizes[trial.size].way)
        if now is None or usual is None or speeds.get(trial.way, 0.0) < CLEAR * usual:
            return False
        if trial.before is not None and now > QUICKER * trial.before:
            return False
        trial.before, trial.enough, trial.left = now, times.added + TIMED, LONGEST
        times.age(trial.size)
        return True

    def _end(self, trial: Trial) -> None:
        known, schedule, speeds = self.sizes[trial.size], self._schedule(trial.size), self._speeds(trial.size)
        schedule.trials[trial.way] = schedule.trials.get(trial.way, 0) + 1
        known.tried[trial.way] = known.rounds
        before = known.way
        if _better(speeds, trial.way, before):
            known.way = trial.way
        for way in {trial.way, before}:
            schedule.due[way] = schedule.rounds + self._distance(way, known, trial.size)
        self._trial = None

    def _distance(self, way: Way, known: Size, size: int) -> int:
        """To the next trial. The first ones follow soon, since one trial may be off, but not by that much."""
        count, speeds = self._schedule(size).trials.get(way, 0), self._speeds(size)
        clear = count and way in speeds and known.way in speeds and speeds[way] < CLEAR * speeds[known.way]
        soon = _first(size) * 2 ** (GROWING if clear else min(count, GROWING))
        return soon if count < GROWING else max(soon, int(self._cost(way, known.way, size) / SHARE))

    def _cost(self, tried: Way, usual: Way, size: int) -> float:
        """Of a trial, in rounds of the usual way: what would have been done in its time, less what it brings."""
        speeds, rounds = self._speeds(size), self.estimates.rounds
        mine, theirs = rounds[tried].at(size), rounds[usual].at(size)
        if not mine or not theirs or tried not in speeds or usual not in speeds:
            return 0.0
        return max(0.0, (TIMED + 1) * mine / theirs * (1 - speeds[tried] / speeds[usual]))

    def _speeds(self, size: int) -> dict[Way, float]:
        speeds = {way: speed for way, speed in way_speeds(self.estimates, size).items() if way in self.ways}
        if Way.OFF in speeds:
            speeds[Way.OFF] *= PLAIN
        return speeds


def _first(size: int) -> int:
    return max(PERIOD, FIRST // size)


def _better(speeds: dict[Way, float], way: Way, than: Way) -> bool:
    return way in speeds and than in speeds and speeds[way] > (1 + MARGIN) * speeds[than]
