"""What `fallback: auto` decides, by hand and against a simulated machine whose best way is known."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from saguaro.runtime.auto import Auto
from saguaro.runtime.speculation.estimates import Estimates, Fallback, Mean, Seconds, Way
from saguaro.runtime.speculation.fallback import Expected, fallback_rounds, way_speeds
from saguaro.runtime.speculation.ways import Ways

PICK = Auto.pick  # as shipped: elsewhere the tests' fixture settles it
SD, SSD = (Way.OFF, Way.SEQUENTIAL), (Way.OFF, Way.SEQUENTIAL, Way.CONCURRENT)


def test_a_mean_forgets() -> None:
    mean = Mean(2.0, weight=2.0)
    mean.add(5.0)
    assert mean.value == pytest.approx(3)
    for _ in range(10_000):
        mean.add(7.0)
    assert mean.value == pytest.approx(7)


def test_times_by_batch_size() -> None:
    seconds = Seconds()
    assert seconds.at(3) is None
    for time in (1.0, 1.2, 90.0, 1.1, 1.0):  # something else ran meanwhile
        seconds.add(2, time)
    assert seconds.at(2) == pytest.approx((1.0 + 1.2 + 1.5 * 1.1 + 1.1 + 1.0) / 5)
    seconds.age(2)
    for time in (0.5, 0.3, 0.5):
        seconds.add(2, time)
    assert seconds.at(2) == pytest.approx((2 * 0.75 + 1.3) / 5)
    seconds.age(9)
    assert seconds.at(1) == seconds.at(7) == seconds.at(2)
    seconds.add(6, 2.56)
    assert seconds.at(3) == pytest.approx(0.56 + 0.5)
    assert seconds.at(9) == pytest.approx(2.56)
    assert seconds.added == 9


def estimates(off: float, sequential: float, concurrent: float, draft: float) -> Estimates:
    made = Estimates()
    for size in (1, 2, 4, 8):
        for way, seconds in zip(SSD, (off, sequential, concurrent), strict=True):
            made.rounds[way].add(size, seconds)
        made.draft.add(size, draft)
    made.hit_tokens.value, made.draft_tokens.value, made.ngram_tokens.value = 3.5, 3.0, 2.0
    made.hits.value, made.found.value = 0.5, 0.5
    return made


def test_the_rounds_of_fallbacks_by_hand() -> None:
    known = estimates(1.0, 1.5, 2.0, 0.5)
    assert fallback_rounds(known, Way.CONCURRENT, 4, hits=1, found=2) == {
        Fallback.DRAFT: (3.5 + 3 * 3.0, 2.5),
        Fallback.NGRAM: (3.5 + 2 * 2.0 + 1, 2.0),
        Fallback.NOTHING: (3.5 + 3, 2.0),
    }
    assert fallback_rounds(known, Way.SEQUENTIAL, 4, hits=0, found=0) == {
        Fallback.DRAFT: (4 * 3.0, 2.0), Fallback.NOTHING: (4, 1.0)
    }  # fmt: skip
    assert fallback_rounds(Estimates(), Way.SEQUENTIAL, 4, hits=0, found=2) == {}
    assert Expected(6.0, 2.0).speed == 3.0
    assert Expected(6.0, 2.0).beyond(2.5) == 1.0


def test_the_speeds_of_ways_by_hand() -> None:
    known = estimates(1.0, 1.5, 2.0, 0.5)
    two = way_speeds(known, 2)
    assert two[Way.OFF] == pytest.approx(2)
    assert two[Way.SEQUENTIAL] == pytest.approx(max(2 * 3.0 / 2.0, (2 + 1 * 1.0) / 1.5))
    waiting = 1 - 0.5**2
    assert two[Way.CONCURRENT] == pytest.approx(max((3.5 + 3.0) / (2 + waiting * 0.5), (3.5 + 1 + 0.5) / 2))
    assert way_speeds(Estimates(), 2) == {}


def picked(known: Estimates, size: int) -> Fallback:
    """In SSD, after a miss of one sequence, for which the look-up finds something."""
    auto = Auto()
    auto.estimates, auto.way = known, Way.CONCURRENT
    return PICK(auto, size, waiting=1, found=1)


def test_a_batch_waits_for_the_draft_only_while_it_is_small() -> None:
    """Design 3.5: one that waits makes all wait, so beyond some size the look-up wins."""
    known = estimates(1.0, 1.0, 1.0, 0.2)
    known.hits.value = 0.8
    assert [picked(known, size) for size in range(1, 9)] == [Fallback.DRAFT] + [Fallback.NGRAM] * 7


def test_what_is_picked_after_a_miss_brings_the_most_in_the_long_run() -> None:
    """Against the speed of a sequence that always drafts, or always looks up, when it misses (Theorem 7)."""
    dice, both = random.Random(5), set()
    for _ in range(300):
        known = estimates(1.0, 1.5, 1.0, dice.uniform(0.1, 1.0))
        known.hits.value, known.found.value = dice.uniform(0.5, 0.95), 1.0
        known.hit_tokens.value, known.draft_tokens.value = (dice.uniform(2, 5) for _ in range(2))
        known.ngram_tokens.value = dice.uniform(1, 3)
        hit, miss = known.hits.value, 1 - known.hits.value
        speeds = {
            Fallback.DRAFT: (hit * known.hit_tokens.value + miss * known.draft_tokens.value)
            / (1 + miss * known.draft.at(1)),
            Fallback.NGRAM: hit * known.hit_tokens.value + miss * known.ngram_tokens.value,
        }
        assert speeds[picked(known, 1)] == max(speeds.values())
        both.add(picked(known, 1))
    assert both == set(speeds)


class Machine:
    """A machine on which each way takes its time and brings its tokens, with noise, and now and then a hiccup."""

    def __init__(self, ways: tuple[Way, ...], seconds: dict[Way, float], tokens: dict[Way, float]):
        self.estimates = Estimates()
        self.ways = Ways(ways, self.estimates)
        self.seconds, self.tokens, self.dice = seconds, tokens, random.Random(3)
        self.given = self.passed = 0.0
        self.before = Way.OFF
        self.cold = 0.0  # by how much plain decoding takes longer at first; that falls by an eighth in each round
        self.slower = 0.0

    def run(self, rounds: int, size: Callable[[int], int] = lambda round: 1) -> None:
        for i in range(rounds):
            n = size(i)
            way = self.ways.next(n)
            took = self.seconds[way] * self.dice.uniform(0.9, 1.1) * (10 if self.dice.random() < 0.01 else 1)
            self.slower = self.cold if way is not Way.OFF else self.slower * 7 / 8
            took *= 1 + self.slower * (way is Way.OFF)
            tokens = n * self.tokens[way]
            if way is self.before:
                self.estimates.rounds[way].add(n, took)
            self.estimates.draft.add(n, 0.0)
            self.estimates.hit_tokens.value = self.estimates.draft_tokens.value = self.tokens[Way.SEQUENTIAL]
            self.given, self.passed, self.before = self.given + tokens, self.passed + took, way

    def speed(self, rounds: int) -> float:
        """Over the next rounds, in units of the best way's."""
        self.given = self.passed = 0.0
        self.run(rounds)
        best = max(self.tokens[way] / self.seconds[way] for way in self.ways.ways) / 1.09  # the hiccups
        return self.given / self.passed / best


@pytest.mark.parametrize("ways", [SD, SSD])
@pytest.mark.parametrize("best", SSD)
@pytest.mark.parametrize("by", [1.1, 2.0, 4.0])
def test_the_best_way_is_found_and_kept(ways: tuple[Way, ...], best: Way, by: float) -> None:
    if best not in ways:
        return
    tokens = {Way.OFF: 1.0, Way.SEQUENTIAL: 3.0, Way.CONCURRENT: 3.0}
    machine = Machine(ways, {way: tokens[way] * (1 if way is best else by) for way in SSD}, tokens)
    machine.run(400)
    assert machine.speed(3000) > 0.97


def test_a_trial_goes_on_while_the_way_gets_faster() -> None:
    """Plain decoding shows only after a dozen rounds that it is the faster one."""
    tokens = {Way.OFF: 1.0, Way.SEQUENTIAL: 3.0, Way.CONCURRENT: 3.0}
    machine = Machine(SSD, {Way.OFF: 1.0, Way.SEQUENTIAL: 4.0, Way.CONCURRENT: 3.8}, tokens)
    machine.cold = 0.9
    machine.run(600)
    assert machine.ways.sizes[1].way is Way.OFF


def test_a_change_of_the_best_way_is_noticed() -> None:
    tokens = {Way.OFF: 1.0, Way.SEQUENTIAL: 3.0, Way.CONCURRENT: 3.0}
    machine = Machine(SSD, {Way.OFF: 2.0, Way.SEQUENTIAL: 4.0, Way.CONCURRENT: 3.0}, tokens)
    machine.run(500)
    assert machine.ways.sizes[1].way is Way.CONCURRENT
    machine.seconds[Way.CONCURRENT] = 12.0  # something else needs the draft's core
    machine.run(200)
    assert machine.ways.sizes[1].way is Way.SEQUENTIAL
    machine.seconds[Way.CONCURRENT] = 2.0
    machine.run(2000)
    assert machine.ways.sizes[1].way is Way.CONCURRENT


def test_a_slower_machine_changes_nothing() -> None:
    """All ways become slower alike: what is known of the others is old, and a trial tells."""
    tokens = {Way.OFF: 1.0, Way.SEQUENTIAL: 3.0, Way.CONCURRENT: 3.0}
    machine = Machine(SSD, {Way.OFF: 2.0, Way.SEQUENTIAL: 4.0, Way.CONCURRENT: 3.0}, tokens)
    machine.run(600)
    for way in SSD:
        machine.seconds[way] *= 3
    assert machine.speed(1000) > 0.9
    assert machine.ways.sizes[1].way is Way.CONCURRENT


def test_the_first_requests_are_hardly_disturbed() -> None:
    """Of a single sequence's first 32 rounds, none is a trial."""
    machine = Machine(SSD, dict.fromkeys(SSD, 1.0), dict.fromkeys(SSD, 1.0))
    assert [machine.ways.next(1) for _ in range(31)] == [Way.CONCURRENT] * 31


def test_sizes_learn_from_one_another() -> None:
    tokens = {Way.OFF: 1.0, Way.SEQUENTIAL: 3.0, Way.CONCURRENT: 3.0}
    machine = Machine(SSD, {Way.OFF: 1.0, Way.SEQUENTIAL: 9.0, Way.CONCURRENT: 9.0}, tokens)
    machine.run(300, size=lambda round: 8)
    assert machine.ways.sizes[8].way is Way.OFF
    assert machine.ways.next(7) is Way.OFF


@pytest.mark.parametrize(("gain", "best"), [(1.03, Way.OFF), (1.08, Way.SEQUENTIAL)])
def test_plain_decoding_is_left_for_a_gain_that_counts(gain: float, best: Way) -> None:
    known = estimates(1.0, 3.0 / gain - 0.5, 9.0, 0.5)
    assert way_speeds(known, 1)[Way.SEQUENTIAL] == pytest.approx(gain)
    assert Ways(SD, known).next(1) is best


def trials(size: Callable[[int], int]) -> int:
    """Rounds of trials, of 300 on a machine where drafting pays a little."""
    tokens = {Way.OFF: 1.0, Way.SEQUENTIAL: 3.0, Way.CONCURRENT: 3.0}
    machine, count = Machine(SSD, {Way.OFF: 1.0, Way.SEQUENTIAL: 2.8, Way.CONCURRENT: 2.5}, tokens), 0
    for round in range(300):
        machine.run(1, lambda _, round=round: size(round))
        count += machine.ways.trying
    return count


def test_sizes_that_differ_little_share_their_trials() -> None:
    assert trials(lambda round: 4 + round // 12 % 4) < 1.5 * trials(lambda round: 4)
