"""Counts of rounds, the speed model, and where the time of a round went."""

from __future__ import annotations

import pytest

from saguaro.runtime.metrics import RequestMetrics, RunMetrics, Times
from saguaro.runtime.speculation import predicted_speedup
from saguaro.runtime.timing import Lane, Span, covered, named, overlap


def counted() -> RequestMetrics:
    """Three rounds of three drafted tokens: 3, 1 and 0 accepted."""
    metrics = RequestMetrics(seed=4)
    metrics.count_round(3, 3, 3, 4, from_cache=True)
    metrics.count_round(3, 3, 1, 2, from_cache=False)
    metrics.count_round(3, 3, 0, 1, from_cache=True)
    metrics.hits, metrics.misses, metrics.fallbacks = 2, 1, 1
    return metrics


def test_rounds_are_counted() -> None:
    metrics = counted()
    assert (metrics.rounds, metrics.drafted, metrics.accepted) == (3, 9, 4)
    assert metrics.histogram == [1, 1, 0, 1]
    assert metrics.drafted_at == [3, 3, 3]
    assert metrics.accepted_at == [2, 1, 1]
    assert (metrics.hits_used, metrics.hit_tokens, metrics.miss_tokens) == (2, 5, 2)
    assert metrics.acceptance_rate == pytest.approx(4 / 9)
    assert metrics.hit_rate == pytest.approx(2 / 3)
    assert metrics.tokens_per_round == pytest.approx(7 / 3)


def test_the_names_of_vllm() -> None:
    values = counted().to_dict()
    assert values["seed"] == 4
    speculative = values["speculative_decoding"]
    assert speculative["mean_acceptance_length"] == pytest.approx(7 / 3)
    assert speculative["draft_acceptance_rate"] == pytest.approx(4 / 9)
    assert speculative["acceptance_rate_by_position"] == pytest.approx([2 / 3, 1 / 3, 1 / 3])
    assert speculative["acceptance_histogram"] == [1, 1, 0, 1]
    names = (
        "num_spec_steps",
        "num_draft_tokens",
        "num_accepted_draft_tokens",
        "cache_hits",
        "cache_misses",
        "fallbacks",
    )
    assert [speculative[name] for name in names] == [3, 9, 4, 2, 1, 1]


def test_nothing_drafted() -> None:
    metrics = RequestMetrics()
    metrics.count_round(0, 0, 0, 1, from_cache=False)
    assert metrics.to_dict()["speculative_decoding"]["acceptance_rate_by_position"] == []
    assert (metrics.acceptance_rate, metrics.hit_rate, metrics.tokens_per_round) == (0, 0, 1)
    assert RequestMetrics().tokens_per_round == 0


def test_all_rejected_at_every_position() -> None:
    metrics = RequestMetrics()
    metrics.count_round(2, 2, 0, 1, from_cache=False)
    assert metrics.to_dict()["speculative_decoding"]["acceptance_rate_by_position"] == [0, 0]


def test_adding_up() -> None:
    total, short = counted(), RequestMetrics(prompt_tokens=5, seconds=1.5)
    short.count_round(1, 1, 1, 2, from_cache=False)
    total.add(short)
    total.add(RequestMetrics())
    assert (total.rounds, total.drafted, total.accepted, total.output_tokens) == (4, 10, 5, 9)
    assert (total.prompt_tokens, total.seconds) == (5, 1.5)
    assert total.histogram == [1, 2, 0, 1]
    assert total.drafted_at == [4, 3, 3]
    assert total.accepted_at == [3, 1, 1]
    assert total.miss_tokens == 4
    backwards = short
    backwards.add(counted())
    assert backwards.histogram == [1, 2, 0, 1]


def test_overlap_and_covered() -> None:
    one = [Span("a", 0, 2), Span("a", 3, 5), Span("a", 8, 9)]
    other = [Span("b", 1, 4), Span("b", 4.5, 6)]
    assert overlap(one, other) == overlap(other, one) == pytest.approx(1 + 1 + 0.5)
    assert overlap(one, []) == 0
    assert covered(one) == pytest.approx(5)
    assert covered(one + other) == pytest.approx(7)
    assert covered([Span("a", 0, 10), Span("a", 2, 3), Span("b", 9, 11)]) == pytest.approx(11)
    assert covered([]) == 0


def test_a_lane_notes_what_it_calls() -> None:
    lane = Lane()
    assert lane.call("add", lambda a, b: a + b, 2, 3) == 5
    assert lane.call("other", lambda: None) is None
    lane.call("later", lambda: None)
    add, other = lane.take(2)
    assert named([add, other], "add") == [add]
    assert named([add, other], "add", "other") == [add, other]
    assert add.end >= add.start
    assert add.seconds == add.end - add.start
    (later,) = lane.take(9)
    assert lane.seconds == later.seconds
    assert lane.take(1) == []


def spans(*made: tuple[str, float, float]) -> list[Span]:
    return [Span(*span) for span in made]


def test_a_run() -> None:
    """Two rounds of ten seconds: the first drafts for 3 s, both verify for 5 s while the draft prepares."""
    run = RunMetrics()
    run.add_round(
        0, 10,
        spans(("forward", 3.5, 7.5), ("verification", 3, 8)),
        spans(("fallback", 0, 3), ("forward", 0.5, 2.5), ("preparation", 3, 9), ("forward", 3, 6)),
    )  # fmt: skip
    run.add_round(10, 20, spans(("verification", 10, 15)), spans(("preparation", 10, 13)))
    assert (run.rounds, run.in_rounds) == (2, 20)
    assert run.times == Times(verification=10, preparation=9, fallback=3, overlapped=pytest.approx(5 + 3))
    assert run.overlap == pytest.approx(8 / 12)
    assert run.forward == pytest.approx(2 + 4.5)
    assert run.outside_forwards == pytest.approx(1 - 6.5 / 20)
    request = RequestMetrics(
        rounds=2, hits_used=1, hit_tokens=4, miss_tokens=2, fallbacks=1, times=run.times
    )
    by_hand = (4 + 2) / 2 / (0.5 * 1 + 0.5 * (1 + 3 / 5))  # T_p = 4.5 / 5, T_b = 3 / 5
    assert request.predicted_speedup() == pytest.approx(by_hand)
    assert request.predicted_speedup(ar_step=4.0) == pytest.approx(by_hand * 4 / 5)
    assert RequestMetrics().predicted_speedup() is None
    assert request.to_dict()["speculative_decoding"]["overlap"] == pytest.approx(8 / 12)
    request.add(request)
    assert request.times.verification == 20


def test_a_preparation_that_ends_in_the_next_round_overlaps_the_verification_that_it_accompanied() -> None:
    run = RunMetrics()
    run.add_round(0, 8, spans(("verification", 0, 7)), [])
    times = run.add_round(8, 16, spans(("verification", 8, 15)), spans(("preparation", 1, 9)))
    assert times.overlapped == pytest.approx(6 + 1)
    assert run.add_round(16, 24, spans(("verification", 16, 23)), []).overlapped == 0
    assert run.overlap == pytest.approx(7 / 8)


def test_the_speed_model_by_hand() -> None:
    assert predicted_speedup(4, 2, 0.75, preparation=0.5, fallback=0.4) == pytest.approx(3.5 / 1.1)
    assert predicted_speedup(4, 2, 0.75, preparation=1.6, fallback=0.4) == pytest.approx(3.5 / 1.55)
    assert predicted_speedup(3, 0, 1.0, preparation=0.9, fallback=0.0) == pytest.approx(3)
    assert predicted_speedup(0, 3, 0.0, preparation=9.9, fallback=0.5) == pytest.approx(2)  # SD
