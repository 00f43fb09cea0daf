"""Which way the rounds of a batch go under `fallback: auto`: on with the best known, and now and then a trial."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from saguaro.runtime.speculation.estimates import OFF, Estimates, Plan
from saguaro.runtime.speculation.fallback import speed
from saguaro.runtime.speculation.trial import Trial

PLAIN = 1.05  # so much plain decoding counts: leaving it and coming back costs, and no batch is to be slower than AR
SHORTER = 0.97  # so much a lookahead counts that is shorter than the one asked for
MARGIN = 0.02  # by how much another way must be faster to be gone over to: less is not worth the change
PERIOD = 8  # rounds of one size between two comparisons
FIRST = 32  # rounds before a batch of one tries another way; larger ones, where drafting gains less, try earlier
PAUSE = 128  # rounds after a trial before the same way is tried again because it looks better
SURE = 0.85  # of the usual way's speed: a trial that finds less is believed
GROWING = 3  # trials at growing distances, before what they cost decides about the distance too
GROWN = 6  # trials until the distances grow no more by themselves
SHARE = 0.004  # of the time that the trials of one way may cost from then on


@dataclass
class Size:
    """What is known of one batch size."""

    way: Plan
    rounds: int = 0
    tried: dict[Plan, int] = field(default_factory=dict)  # when each way was, the last time
    trial: Trial | None = None  # under way; another size interrupts it


@dataclass
class Schedule:
    """When each way is to be tried; sizes that differ by less than a factor of two share one, as trials cost."""

    due: dict[Plan, int]
    rounds: int = 0
    trials: dict[Plan, int] = field(default_factory=dict)


class Ways:
    """The choice among some ways, for every batch size by itself.

    A trial comes before every change, since what is known of other ways may be old: the machine may have become slower
    meanwhile, and that for all of them.
    """

    def __init__(self, ways: Sequence[Plan], estimates: Estimates):
        """`ways`: plain decoding comes first, and the one to begin with last."""
        self.ways, self.estimates = tuple(ways), estimates
        self.sizes: dict[int, Size] = {}
        self._schedules: dict[int, Schedule] = {}
        self.trying = False  # whether the latest round is one of a trial
        self._size, self._lasting = 0, 0  # the batch's, and for how many rounds: one that does not last tells little

    def usual(self, size: int) -> Plan:
        """The way of a batch of `size` sequences for now; of two that take turns, the one held so far."""
        known = self._known(size)
        return known.trial.way if known.trial and not known.trial.in_turns else known.way

    def next(self, size: int) -> Plan:
        """The way of the next round of a batch of `size` sequences."""
        known = self._known(size)
        known.rounds += 1
        self._lasting = self._lasting + 1 if size == self._size else 1
        self._size = size
        self._schedule(size).rounds += 1
        if known.trial and not known.trial.goes_on(self._speeds):
            self._end(known, known.trial)
            known.trial = None
        elif not known.trial and self._lasting % PERIOD == 0:
            wanted = self._wanted(known, size)
            if wanted:
                known.trial = Trial(wanted, known.way, size, self.estimates)
                self._schedule(size).due[wanted] += PAUSE  # other sizes wait for what this one finds
        self.trying = known.trial is not None
        return known.trial.plan() if known.trial else known.way

    def _known(self, size: int) -> Size:
        """Of a size that was not seen, the way of one near it holds until it is known."""
        if size not in self.sizes:
            seen = [other for other, known in self.sizes.items() if known.rounds >= FIRST]
            near = [other for other in seen if other < 2 * size and size < 2 * other]
            like = min(near, key=lambda other: abs(other - size), default=None)
            self.sizes[size] = Size(self.sizes[like].way if like else self.ways[-1])
        return self.sizes[size]

    def _schedule(self, size: int) -> Schedule:
        group = size.bit_length()
        if group not in self._schedules:
            self._schedules[group] = Schedule({way: _first(size) * 2**i for i, way in enumerate(self.ways)})
        return self._schedules[group]

    def _wanted(self, known: Size, size: int) -> Plan | None:
        """Another way whose trial is due, or that looks better."""
        speeds, schedule = self._speeds(size), self._schedule(size)
        for way in self.ways:
            rested = known.rounds - known.tried.get(way, -PAUSE) >= PAUSE
            due = schedule.rounds >= schedule.due[way] or (rested and _better(speeds, way, known.way))
            if due and way != known.way and self._promises(way, size, speeds.get(known.way)):
                return way
        return None

    def _promises(self, way: Plan, size: int, usual: float | None) -> bool:
        """Whether a shorter lookahead would beat the `usual` speed if verifying so few tokens cost nothing."""
        plain = self.estimates.rounds[OFF].at(size)
        if not self._shorter(way) or not plain or not usual:
            return True
        return SHORTER * (speed(self.estimates, way, size, seconds=plain) or 0.0) > usual

    def _end(self, known: Size, trial: Trial) -> None:
        schedule, speeds = self._schedule(trial.size), self._speeds(trial.size)
        schedule.trials[trial.way] = schedule.trials.get(trial.way, 0) + 1
        known.tried[trial.way] = known.rounds
        before = known.way
        if _better(speeds, trial.way, before):
            known.way = trial.way
        for way in {trial.way, before}:
            schedule.due[way] = schedule.rounds + self._distance(way, known, trial)

    def _distance(self, way: Plan, known: Size, trial: Trial) -> int:
        """To the next trial. The first ones follow soon, since one trial may be off, but not by that much."""
        count, speeds = self._schedule(trial.size).trials.get(way, 0), self._speeds(trial.size)
        clear = count and way in speeds and known.way in speeds and speeds[way] < SURE * speeds[known.way]
        soon = _first(trial.size) * 2 ** min(max(count, GROWING if clear or self._shorter(way) else 0), GROWN)
        if count < GROWING:
            return soon
        return max(soon, int(trial.rounds * self._loss(way, known.way, trial.size) / SHARE))

    def _loss(self, tried: Plan, usual: Plan, size: int) -> float:
        """Of a round of a trial, in rounds of the usual way: what would have been done in its time, less what it
        brings."""
        speeds, rounds = self._speeds(size), self.estimates.rounds
        mine, theirs = rounds[tried].at(size), rounds[usual].at(size)
        if not mine or not theirs or tried not in speeds or usual not in speeds:
            return 0.0
        return max(0.0, mine / theirs * (1 - speeds[tried] / speeds[usual]))

    def _speeds(self, size: int) -> dict[Plan, float]:
        speeds = {}
        for way in self.ways:
            found = speed(self.estimates, way, size)
            if found is not None:
                speeds[way] = found * (PLAIN if way == OFF else SHORTER if self._shorter(way) else 1.0)
        return speeds

    def _shorter(self, way: Plan) -> bool:
        return 0 < way.lookahead < self.ways[-1].lookahead


def _first(size: int) -> int:
    return max(PERIOD, FIRST // size)


def _better(speeds: dict[Plan, float], way: Plan, than: Plan) -> bool:
    return way in speeds and than in speeds and speeds[way] > (1 + MARGIN) * speeds[than]
