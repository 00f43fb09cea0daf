"""Which way `fallback: auto` goes, against a simulated machine whose best way is known."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from saguaro.runtime.speculation.estimates import OFF, Estimates, Plan
from saguaro.runtime.speculation.ways import Ways
from tests.runtime.test_auto_policy import CONCURRENT, SD, SEQUENTIAL, SHORT, SSD, bring


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
