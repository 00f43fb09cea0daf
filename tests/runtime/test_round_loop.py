"""The round loop over scripted sessions: rejection at every place, every lookahead, changing batches."""

from __future__ import annotations

from time import perf_counter

import pytest

from saguaro.runtime.draft_side import LESSONS
from saguaro.runtime.rounds import ACCOUNTED
from saguaro.runtime.sequence import Sequence
from saguaro.runtime.speculation.adaptive import AdaptivePolicy
from saguaro.runtime.speculative_rounds import ConcurrentLoop
from saguaro.runtime.trace import Trace
from tests.runtime.scripted import (
    LENGTH,
    draft_ranking,
    scripted_loop,
    sequence,
    serial,
    target_ranking,
)

PROMPT = [3, 1, 4, 1, 5, 9, 2]
FORWARDS = [("ar", "target")] + [(mode, who) for mode in ("sd", "ssd") for who in ("target", "draft")]
EVERY_PLACE = [(lookahead, place) for lookahead in range(1, 6) for place in range(lookahead + 1)]


class Learner:
    """An outcome policy, as far as lessons go."""

    def __init__(self, learned: list[list[int]]):
        self.learn = learned.append


def expect(sequences: list[Sequence]) -> None:
    for done in sequences:
        prompt = done.tokens[: done.prompt_length]
        assert done.generated == serial(prompt, done.params.max_tokens)
        assert done.finish_reason == "length"


@pytest.mark.parametrize("mode", ["sd", "ssd"])
@pytest.mark.parametrize(("lookahead", "place"), EVERY_PLACE)
def test_rejection_at_every_place(mode: str, lookahead: int, place: int) -> None:
    """The draft errs so that every round accepts exactly `place` tokens; counts and cache rows follow."""
    period = place + 1
    first = len(PROMPT)

    def wrong(position: int) -> bool:
        return place < lookahead and (position - first) % period == place

    rounds = 4
    done = sequence(PROMPT, rounds * period)
    with scripted_loop(mode, draft_ranking(wrong), lookahead=lookahead) as (loop, target, _):
        given = [tokens for _, tokens in loop.run([done])]
        verified = list(target.cache[0][: len(done.tokens) - 1])
    expect([done])
    assert [len(tokens) for tokens in given] == [period] * rounds
    assert done.metrics.histogram == [0] * place + [rounds]
    assert (done.metrics.drafted, done.metrics.accepted) == (rounds * lookahead, rounds * place)
    assert verified == [(token, position) for position, token in enumerate(done.tokens[:-1])]
    if mode == "ssd":  # the right token is always the draft's first or second choice; the first is drafted on entering
        assert (done.metrics.hits, done.metrics.misses) == (rounds, 0)
        assert done.metrics.fallbacks == 0


@pytest.mark.parametrize("mode", ["ar", "sd", "ssd"])
@pytest.mark.parametrize("lookahead", [1, 4])
@pytest.mark.parametrize("period", [1, 3, 5])
def test_a_batch_that_changes(mode: str, lookahead: int, period: int) -> None:
    """Seven sequences in three slots, of all lengths down to a prompt and an output of one token."""
    lengths = [(1, 9), (7, 1), (4, 20), (12, 5), (2, 13), (5, 5), (9, 30)]
    sequences = [sequence(list(range(i, i + prompt)), new) for i, (prompt, new) in enumerate(lengths)]
    ranking = draft_ranking(lambda position: position % period == 0)
    with scripted_loop(mode, ranking, lookahead=lookahead) as (loop, _, _):
        given: dict[Sequence, list[int]] = {done: [] for done in sequences}
        for done, tokens in loop.run(sequences):
            given[done] += tokens
        assert not loop.active
    expect(sequences)
    assert all(given[done] == done.generated for done in sequences)


@pytest.mark.parametrize("mode", ["sd", "ssd"])
def test_hits_and_misses_side_by_side(mode: str) -> None:
    """A small budget: some sequences of a batch hit while others fall back."""
    sequences = [sequence([i] * (2 + i), 25) for i in range(3)]
    ranking = draft_ranking(lambda position: position % 5 in (0, 2))
    with scripted_loop(mode, ranking, lookahead=3, budget=2) as (loop, _, _):
        list(loop.run(sequences))
    expect(sequences)
    if mode == "ssd":
        assert sum(done.metrics.hits for done in sequences) > 0
        assert sum(done.metrics.misses for done in sequences) > 0


@pytest.mark.parametrize("mode", ["ar", "sd", "ssd"])
def test_to_the_last_row(mode: str) -> None:
    done = sequence(PROMPT, LENGTH - len(PROMPT))
    with scripted_loop(mode, draft_ranking(lambda position: position % 7 == 0), lookahead=5) as (loop, _, _):
        list(loop.run([done]))
    expect([done])
    assert len(done.tokens) == LENGTH


@pytest.mark.parametrize("mode", ["ar", "sd", "ssd"])
@pytest.mark.parametrize("at", range(1, 8))
def test_an_end_token_anywhere_in_a_speculation(mode: str, at: int) -> None:
    """Everything is accepted: the end token lies at each place of a speculation in turn, or is the bonus."""
    answer = serial(PROMPT, 12)
    end = answer[at - 1]
    expected = answer[: answer.index(end) + 1]
    done = sequence(PROMPT, 12, frozenset({end}))
    with scripted_loop(mode, draft_ranking(lambda position: False), lookahead=5) as (loop, _, _):
        list(loop.run([done]))
    assert done.generated == done.tokens[len(PROMPT) :] == expected
    assert done.finish_reason == "stop"
    assert done.metrics.output_tokens == len(expected)


@pytest.mark.parametrize("mode", ["ar", "sd", "ssd"])
def test_leaving_early_leaves_the_loop_ready(mode: str) -> None:
    with scripted_loop(mode, draft_ranking(lambda position: position % 3 == 0), lookahead=3) as (loop, _, _):
        abandoned = loop.run([sequence([i], 30) for i in range(3)])
        next(abandoned)
        abandoned.close()  # type: ignore[attr-defined]
        assert not loop.active
        fresh = [sequence([i, 7], 12) for i in range(4)]
        list(loop.run(fresh))
    expect(fresh)


@pytest.mark.parametrize("every_round", [False, True])
@pytest.mark.parametrize("mode", ["ar", "sd", "ssd"])
def test_every_round_is_accounted_for(mode: str, every_round: bool) -> None:
    """Also where there are more of them than are summed up at once, and they end at different rounds."""
    assert LENGTH - 8 > ACCOUNTED
    sequences = [sequence(PROMPT, LENGTH - 8), sequence(PROMPT, 5)]
    with scripted_loop(mode, draft_ranking(lambda position: True), lookahead=2) as (loop, _, _):
        list(loop.run(sequences, every_round))
        run = loop.metrics
    expect(sequences)
    assert [done.metrics.rounds for done in sequences] == [LENGTH - 8, 5]
    assert run.rounds == LENGTH - 8
    longer, shorter = (done.metrics for done in sequences)
    assert longer.times.verification == pytest.approx(run.times.verification)
    assert 0 < shorter.times.verification < longer.times.verification
    assert 0 < longer.time_to_first_token < shorter.seconds < longer.seconds


@pytest.mark.parametrize("mode", ["sd", "ssd"])
@pytest.mark.parametrize("tree_nodes", [0, 6])
def test_who_enters_is_drafted_for_alone(monkeypatch: pytest.MonkeyPatch, mode: str, tree_nodes: int) -> None:
    """The others of the batch have something to verify already; no row is computed for them."""
    with scripted_loop(mode, target_ranking, lookahead=3, tree_nodes=tree_nodes) as (loop, _, draft):
        forward, steps = draft.forward, []
        monkeypatch.setattr(draft, "forward", lambda step: (steps.append(step), forward(step))[1])
        for slot in range(3):
            loop._admit(sequence([slot] * 5, 9), 3)
            assert {(len(step.tokens), step.first_slot) for step in steps} == {(1, slot)}
            steps.clear()
        assert all(loop.active[slot].speculation for slot in range(3))


@pytest.mark.parametrize("tree_nodes", [0, 6])
def test_lessons_are_learned_together(tree_nodes: int) -> None:
    """Each policy gets its own, several at once, and the rest when a sequence leaves."""
    with scripted_loop("ssd", target_ranking, lookahead=3, tree_nodes=tree_nodes) as (loop, _, _):
        assert isinstance(loop, ConcurrentLoop)
        drafter, learned = loop.drafter, []
        policies = [Learner(learned), Learner(learned)]
        for number in range(LESSONS):
            drafter.learn()
            assert learned == []
            drafter.unlearned.append((policies[number % 2], number))
        drafter.learn()
        assert learned == [list(range(0, LESSONS, 2)), list(range(1, LESSONS, 2))]
        drafter.unlearned.append((policies[0], -1))
        drafter.release(sequence([1], 1))
        assert learned[2:] == [[-1]]
        assert not drafter.unlearned


@pytest.mark.parametrize(("mode", "who"), FORWARDS)
@pytest.mark.parametrize("call", [1, 3, 7, 20])
def test_an_error_in_a_forward_leaves_the_loop_ready(mode: str, who: str, call: int) -> None:
    """It comes out of `run` as it is, from prompt processing (call 1), or from a round."""
    right = draft_ranking(lambda position: position % 3 == 0)
    with scripted_loop(mode, right, lookahead=3) as (loop, target, draft):
        session = target if who == "target" else draft
        calls, ranking = 0, session.ranking

        def failing(path: tuple[int, ...]) -> list[int]:
            nonlocal calls
            calls += 1
            if calls == call:
                raise MemoryError("as if")
            return ranking(path)

        session.ranking = failing
        with pytest.raises(MemoryError, match="as if"):
            list(loop.run([sequence([i, 5, 6], 30) for i in range(3)]))
        assert not loop.active
        fresh, trace, begin = [sequence([i, 7], 12) for i in range(4)], Trace(), perf_counter()
        loop.trace = trace
        list(loop.run(fresh))
    expect(fresh)
    assert all(span.start > begin for one in trace.rounds for span in (*one.target, *one.draft))


def test_the_scripted_session_notices_a_wrong_mask() -> None:
    """What the tests above rest on: a draft row that is seen at a wrong place is an error."""
    with scripted_loop("ssd", target_ranking, lookahead=3) as (loop, target, _):
        move = target.move_slot
        target.move_slot = lambda source, end: move(end, source)  # type: ignore[method-assign]
        sequences = [sequence([i] * (i + 1), 4 + 5 * i) for i in range(3)]

        def generate() -> None:
            list(loop.run(sequences))
            expect(sequences)

        with pytest.raises(AssertionError):
            generate()


@pytest.mark.parametrize(("taper", "drafted"), [(True, 1), (False, 4)])
def test_outcomes_that_are_worth_little_get_little(
    monkeypatch: pytest.MonkeyPatch, taper: bool, drafted: int
) -> None:
    """Where rows cost, a second token that is surely not worth drafting is not drafted; tokens are the same."""
    monkeypatch.setattr(AdaptivePolicy, "worth", 2.0)
    done = sequence(PROMPT, 24)
    with scripted_loop("ssd", target_ranking, lookahead=4, taper=taper) as (loop, _, _):
        assert [tokens for _, tokens in loop.run([done])]
    expect([done])
    assert done.metrics.fallbacks == 0
    assert done.metrics.drafted == 4 + drafted * (done.metrics.rounds - 1)
