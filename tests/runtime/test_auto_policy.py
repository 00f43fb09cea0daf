"""What `fallback: auto` expects of rounds, and picks after a miss: by hand."""

from __future__ import annotations

import random

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


@pytest.mark.parametrize(("gain", "best"), [(1.03, OFF), (1.08, SEQUENTIAL)])
def test_plain_decoding_is_left_for_a_gain_that_counts(gain: float, best: Plan) -> None:
    known = estimates(1.0, 3.0 / gain - 0.5, 9.0, 0.5)
    assert speed(known, SEQUENTIAL, 1) == pytest.approx(gain)
    speeds = Ways(SD, known)._speeds(1)
    assert max(speeds, key=speeds.__getitem__) == best
