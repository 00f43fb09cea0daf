"""What `fallback: auto` decides, by hand and against a simulated machine whose best way is known."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from saguaro.runtime.auto import Auto, halvings
from saguaro.runtime.speculation.estimates import OFF, Acceptance, Estimates, Fallback, Mean, Plan, Seconds, Way
from saguaro.runtime.speculation.fallback import Expected, fallback_rounds, speed
from saguaro.runtime.speculation.ways import Ways

PICK = Auto.pick  # as shipped: elsewhere the tests' fixture settles it
SEQUENTIAL, CONCURRENT = Plan(Way.SEQUENTIAL, 5), Plan(Way.CONCURRENT, 5)
SD, SSD = (OFF, SEQUENTIAL), (OFF, SEQUENTIAL, CONCURRENT)
SHORT = Plan(Way.CONCURRENT, 2)


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


def test_acceptance_by_hand() -> None:
    acceptance = Acceptance(3, prior=0.5)
    assert acceptance.tokens(3) == 1 + 0.5 + 0.25 + 0.125
    acceptance.add(tokens=3, lookahead=3)  # two accepted, and then one rejected
    first, third = (4 * 0.5 + 1) / 5, 4 * 0.5 / 5
    assert acceptance.tokens(3) == pytest.approx(1 + first + first**2 + first**2 * third)
    acceptance.add(tokens=3, lookahead=2)  # two accepted, of two
    first = (4 * 0.5 + 2) / 6
    assert acceptance.tokens(2) == pytest.approx(1 + first + first**2)
    assert acceptance.tokens(3) == pytest.approx(1 + first + first**2 + first**2 * third)
    assert acceptance.tokens(0) == 1


def test_lookaheads_to_choose_from() -> None:
    assert [halvings(lookahead) for lookahead in (1, 2, 3, 4, 5, 8)] == [[1], [2], [3], [2, 4], [2, 5], [2, 4, 8]]


def bring(acceptance: Acceptance, tokens: float) -> None:
    """Let a round of the longest lookahead be expected to bring so many: all of them or none are accepted."""
    for rate in acceptance.rates:
        rate.value = 1.0
    acceptance.rates[0].value = (tokens - 1) / len(acceptance.rates)
    acceptance._tokens.clear()


def estimates(off: float, sequential: float, concurrent: float, draft: float) -> Estimates:
    """`draft`: seconds to draft five tokens."""
    made = Estimates(5)
    for size in (1, 2, 4, 8):
        for way, seconds in zip(SSD, (off, sequential, concurrent), strict=True):
            made.rounds[way].add(size, seconds)
        made.draft.add(size, draft / 5)
    for acceptance, tokens in ((made.hit, 3.5), (made.drafted, 3.0), (made.ngram, 2.0)):
        bring(acceptance, tokens)
    made.hits.value, made.found.value = 0.5, 0.5
    return made


def test_the_rounds_of_fallbacks_by_hand() -> None:
    known = estimates(1.0, 1.5, 2.0, 0.5)
    assert by_hand(fallback_rounds(known, CONCURRENT, 4, hits=1, found=2)) == {
        Fallback.DRAFT: (3.5 + 3 * 3.0, 2.5),
        Fallback.NGRAM: (3.5 + 2 * 2.0 + 1, 2.0),
        Fallback.NOTHING: (3.5 + 3, 2.0),
    }
    assert by_hand(fallback_rounds(known, SEQUENTIAL, 4, hits=0, found=0)) == {
        Fallback.DRAFT: (4 * 3.0, 2.0), Fallback.NOTHING: (4, 1.0)
    }  # fmt: skip
    known.rounds[SHORT].add(4, 1.25)
    assert by_hand(fallback_rounds(known, SHORT, 4, hits=1, found=2)) == {
        Fallback.DRAFT: (1 + 2 * 0.5 + 3 * (1 + 2 * 0.4), 1.25 + 0.2),
        Fallback.NGRAM: (1 + 2 * 0.5 + 2 * (1 + 2 * 0.2) + 1, 1.25),
        Fallback.NOTHING: (1 + 2 * 0.5 + 3, 1.25),
    }
    assert fallback_rounds(Estimates(5), SEQUENTIAL, 4, hits=0, found=2) == {}
    assert Expected(6.0, 2.0).speed == 3.0
    assert Expected(6.0, 2.0).beyond(2.5) == 1.0


def by_hand(rounds: dict[Fallback, Expected]) -> dict[Fallback, object]:
    return {fallback: pytest.approx(expected) for fallback, expected in rounds.items()}


def test_the_speeds_of_ways_by_hand() -> None:
    known = estimates(1.0, 1.5, 2.0, 0.5)
    assert speed(known, OFF, 2) == pytest.approx(2)
    assert speed(known, SEQUENTIAL, 2) == pytest.approx(max(2 * 3.0 / 2.0, (2 + 1 * 1.0) / 1.5))
    waiting = 1 - 0.5**2
    expected = max((3.5 + 3.0) / (2 + waiting * 0.5), (3.5 + 1 + 0.5) / 2)
    assert speed(known, CONCURRENT, 2) == pytest.approx(expected)
    assert speed(known, SHORT, 2, seconds=2) == pytest.approx((2 + 1.8) / (2 + waiting * 0.2))
    assert [speed(Estimates(5), plan, 2) for plan in (*SSD, SHORT)] == [None] * 4


def picked(known: Estimates, size: int) -> Fallback:
    """In SSD, after a miss of one sequence, for which the look-up finds something."""
    auto = Auto([5])
    auto.estimates, auto.plan = known, CONCURRENT
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
        for acceptance, most in ((known.hit, 5), (known.drafted, 5), (known.ngram, 3)):
            bring(acceptance, dice.uniform(1 if acceptance is known.ngram else 2, most))
        hit, miss = known.hits.value, 1 - known.hits.value
        speeds = {
            Fallback.DRAFT: (hit * known.hit.tokens(5) + miss * known.drafted.tokens(5))
            / (1 + miss * 5 * known.draft.at(1)),
            Fallback.NGRAM: hit * known.hit.tokens(5) + miss * known.ngram.tokens(5),
        }
        assert speeds[picked(known, 1)] == max(speeds.values())
        both.add(picked(known, 1))
    assert both == set(speeds)


class Machine:
    """A machine on which each way takes its time and brings its tokens, with noise, and now and then a hiccup."""

    def __init__(self, ways: tuple[Plan, ...], seconds: dict[Plan, float], tokens: dict[Plan, float]):
        self.estimates = Estimates(5)
        self.ways = Ways(ways, self.estimates)
        self.seconds, self.tokens, self.dice = seconds, tokens, random.Random(3)
        self.given = self.passed = 0.0
        self.before = OFF
        self.cold = 0.0  # by how much plain decoding takes longer at first; that falls by an eighth in each round
        self.slower = 0.0

    def run(self, rounds: int, size: Callable[[int], int] = lambda round: 1) -> None:
        for i in range(rounds):
            n = size(i)
            way = self.ways.next(n)
            took = self.seconds[way] * self.dice.uniform(0.9, 1.1) * (10 if self.dice.random() < 0.01 else 1)
            self.slower = self.cold if way != OFF else self.slower * 7 / 8
            took *= 1 + self.slower * (way == OFF)
            tokens = n * self.tokens[way]
            if way == self.before:
                self.estimates.rounds[way].add(n, took)
            self.estimates.draft.add(n, 0.0)
            for acceptance in (self.estimates.hit, self.estimates.drafted):
                bring(acceptance, self.tokens[SEQUENTIAL])
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
def test_the_best_way_is_found_and_kept(ways: tuple[Plan, ...], best: Plan, by: float) -> None:
    if best not in ways:
        return
    tokens = {OFF: 1.0, SEQUENTIAL: 3.0, CONCURRENT: 3.0}
    machine = Machine(ways, {way: tokens[way] * (1 if way == best else by) for way in SSD}, tokens)
    machine.run(400)
    assert machine.speed(3000) > 0.97


def test_a_trial_goes_on_while_the_way_gets_faster() -> None:
    """Plain decoding shows only after a dozen rounds that it is the faster one."""
    tokens = {OFF: 1.0, SEQUENTIAL: 3.0, CONCURRENT: 3.0}
    machine = Machine(SSD, {OFF: 1.0, SEQUENTIAL: 4.0, CONCURRENT: 3.8}, tokens)
    machine.cold = 0.9
    machine.run(600)
    assert machine.ways.sizes[1].way == OFF


def test_a_change_of_the_best_way_is_noticed() -> None:
    tokens = {OFF: 1.0, SEQUENTIAL: 3.0, CONCURRENT: 3.0}
    machine = Machine(SSD, {OFF: 2.0, SEQUENTIAL: 4.0, CONCURRENT: 3.0}, tokens)
    machine.run(500)
    assert machine.ways.sizes[1].way == CONCURRENT
    machine.seconds[CONCURRENT] = 12.0  # something else needs the draft's core
    machine.run(200)
    assert machine.ways.sizes[1].way == SEQUENTIAL
    machine.seconds[CONCURRENT] = 2.0
    machine.run(2000)
    assert machine.ways.sizes[1].way == CONCURRENT


def test_a_slower_machine_changes_nothing() -> None:
    """All ways become slower alike: what is known of the others is old, and a trial tells."""
    tokens = {OFF: 1.0, SEQUENTIAL: 3.0, CONCURRENT: 3.0}
    machine = Machine(SSD, {OFF: 2.0, SEQUENTIAL: 4.0, CONCURRENT: 3.0}, tokens)
    machine.run(600)
    for way in SSD:
        machine.seconds[way] *= 3
    assert machine.speed(1000) > 0.9
    assert machine.ways.sizes[1].way == CONCURRENT


def test_the_first_requests_are_hardly_disturbed() -> None:
    """Of a single sequence's first 32 rounds, none is a trial."""
    machine = Machine(SSD, dict.fromkeys(SSD, 1.0), dict.fromkeys(SSD, 1.0))
    assert [machine.ways.next(1) for _ in range(31)] == [CONCURRENT] * 31


def test_sizes_learn_from_one_another() -> None:
    tokens = {OFF: 1.0, SEQUENTIAL: 3.0, CONCURRENT: 3.0}
    machine = Machine(SSD, {OFF: 1.0, SEQUENTIAL: 9.0, CONCURRENT: 9.0}, tokens)
    machine.run(300, size=lambda round: 8)
    assert machine.ways.sizes[8].way == OFF
    assert machine.ways.next(7) == OFF


@pytest.mark.parametrize(("gain", "best"), [(1.03, OFF), (1.08, SEQUENTIAL)])
def test_plain_decoding_is_left_for_a_gain_that_counts(gain: float, best: Plan) -> None:
    known = estimates(1.0, 3.0 / gain - 0.5, 9.0, 0.5)
    assert speed(known, SEQUENTIAL, 1) == pytest.approx(gain)
    speeds = Ways(SD, known)._speeds(1)
    assert max(speeds, key=speeds.__getitem__) == best


def trials(size: Callable[[int], int]) -> int:
    """Rounds of trials, of 300 on a machine where drafting pays a little."""
    tokens = {OFF: 1.0, SEQUENTIAL: 3.0, CONCURRENT: 3.0}
    machine, count = Machine(SSD, {OFF: 1.0, SEQUENTIAL: 2.8, CONCURRENT: 2.5}, tokens), 0
    for round in range(300):
        machine.run(1, lambda _, round=round: size(round))
        count += machine.ways.trying
    return count


def test_sizes_that_differ_little_share_their_trials() -> None:
    assert trials(lambda round: 4 + round // 12 % 4) < 1.5 * trials(lambda round: 4)


LENGTHS = (OFF, SEQUENTIAL, SHORT, CONCURRENT)
TOKENS = {OFF: 1.0, SEQUENTIAL: 3.0, SHORT: 1.8, CONCURRENT: 3.0}  # as `bring` has it


def lengths_machine(off: float, short: float, concurrent: float) -> Machine:
    return Machine(LENGTHS, {OFF: off, SEQUENTIAL: 9.0, SHORT: short, CONCURRENT: concurrent}, TOKENS)


@pytest.mark.parametrize(("short", "best"), [(1.5, SHORT), (2.0, SHORT), (2.35, CONCURRENT), (3.0, CONCURRENT)])
def test_the_best_lookahead_is_found_and_kept(short: float, best: Plan) -> None:
    """3.6 seconds for three tokens are as quick as 2.16 for 1.8."""
    machine = lengths_machine(1.5, short, 3.6)
    machine.run(400)
    assert machine.speed(3000) > 0.96
    assert machine.ways.usual(1) == best


def test_a_lookahead_that_cannot_pay_is_not_tried() -> None:
    """Not even if verifying two tokens took no longer than computing one."""
    machine = lengths_machine(1.0, 1.1, 1.3)
    machine.run(3000)
    assert machine.estimates.rounds[SHORT].added == 0


def test_two_lookaheads_take_turns_in_a_trial_that_other_sizes_interrupt() -> None:
    machine = lengths_machine(1.5, 2.2, 3.6)
    plans = []
    for round in range(2000):
        size = 1 if round % 13 else 2
        plan = machine.ways.next(size)
        if size == 1:
            plans.append((plan, machine.ways.trying))
        machine.estimates.rounds[plan].add(size, machine.seconds[plan])
        machine.estimates.draft.add(size, 0.0)
    first = next(i for i, (plan, trying) in enumerate(plans) if trying and plan == SHORT)
    trial = [plan for plan, trying in plans[first : first + 48] if trying]
    assert trial == [SHORT] * 16 + [CONCURRENT] * 16 + [SHORT] * 16
    assert not plans[first + 48][1]


def test_a_size_not_seen_begins_like_one_near_it_and_else_with_the_longest_lookahead() -> None:
    machine = lengths_machine(1.5, 1.5, 3.6)
    machine.run(400, size=lambda round: 4)
    assert [machine.ways.usual(size) for size in (4, 3, 5, 7)] == [SHORT] * 4
    assert [machine.ways.usual(size) for size in (1, 9)] == [CONCURRENT] * 2


def test_nothing_is_tried_at_sizes_that_do_not_last() -> None:
    machine = lengths_machine(1.5, 2.2, 3.6)
    for round in range(3000):
        plan = machine.ways.next(1 + round // 7 % 8)
        assert not machine.ways.trying
        assert plan == CONCURRENT
