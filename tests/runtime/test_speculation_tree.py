"""Token trees, the outcomes of verifying them, and the cache from outcome to speculation."""

from __future__ import annotations

import pytest

from saguaro.runtime.sampling_params import SamplingParams
from saguaro.runtime.sequence import Sequence
from saguaro.runtime.speculation import Outcome, Prepared, Speculation, SpeculationCache
from saguaro.runtime.speculation.tree import EMPTY

#        0
#      1   2
#     3 4   5
#     6
TREE = Speculation((11, 12, 13, 14, 15, 16), (0, 0, 1, 1, 2, 3))


def test_a_chain() -> None:
    chain = Speculation.chain([7, 8, 9])
    assert chain == Speculation((7, 8, 9), (0, 1, 2))
    assert chain.is_chain
    assert len(chain) == 3
    assert chain.depths() == [0, 1, 2, 3]
    assert chain.path(2) == [1, 2]
    assert chain.ancestors() == [[column <= row for column in range(4)] for row in range(4)]


def test_a_tree() -> None:
    assert not TREE.is_chain
    assert TREE.depths() == [0, 1, 1, 2, 2, 2, 3]
    assert [TREE.path(node) for node in range(7)] == [[], [1], [2], [1, 3], [1, 4], [2, 5], [1, 3, 6]]
    seen = [{column for column, sees in enumerate(row) if sees} for row in TREE.ancestors()]
    assert seen == [{0}, {0, 1}, {0, 2}, {0, 1, 3}, {0, 1, 4}, {0, 2, 5}, {0, 1, 3, 6}]


def test_nothing_speculated() -> None:
    assert len(EMPTY) == 0
    assert EMPTY.is_chain
    assert EMPTY.depths() == [0]
    assert EMPTY.ancestors() == [[True]]
    assert EMPTY.path(0) == []
    assert not EMPTY  # "has it anything to verify" is asked this way


def test_the_cache() -> None:
    cache, drafted = SpeculationCache(), [[], []]
    assert cache.get(Outcome(0, 5)) is None
    cache.open([Outcome(0, 5), Outcome(1, 5)], lambda branch: (Speculation.chain(drafted[branch]), ()))
    assert len(cache) == 2
    assert cache.get(Outcome(0, 5)) is None  # foreseen, but nothing is drafted yet
    drafted[:] = [11], [21]
    early = cache.get(Outcome(1, 5))
    drafted[:] = [11, 12], [21, 22]
    assert early == Prepared(Speculation.chain([21]), 1)
    assert cache.get(Outcome(0, 5)) == Prepared(Speculation.chain([11, 12]), 0)
    assert cache.get(Outcome(0, 6)) is None
    assert cache.get(Outcome(2, 5)) is None


def accepted(outcome: Outcome, speculation: Speculation = TREE, room: int = 9, stop: int = -1) -> Sequence:
    sequence = Sequence([1, 2], SamplingParams(max_tokens=room), 0, frozenset({stop}))
    sequence.speculation = speculation
    sequence.accept(outcome)
    return sequence


@pytest.mark.parametrize(
    ("node", "tokens"), [(0, [99]), (1, [11, 99]), (5, [12, 15, 99]), (6, [11, 13, 16, 99])]
)
def test_accepting_a_path(node: int, tokens: list[int]) -> None:
    sequence = accepted(Outcome(node, 99))
    assert sequence.generated == tokens
    assert sequence.prefix == 1 + len(tokens)
    assert sequence.finish_reason is None


def test_accepting_stops_at_the_limit() -> None:
    assert accepted(Outcome(6, 99), room=3).generated == [11, 13, 16]
    assert accepted(Outcome(6, 99), room=3).finish_reason == "length"
    exact = accepted(Outcome(6, 99), room=4)
    assert (exact.generated, exact.finish_reason) == ([11, 13, 16, 99], "length")


def test_accepting_stops_at_an_end_token() -> None:
    inside = accepted(Outcome(6, 99), stop=13)
    assert (inside.generated, inside.finish_reason) == ([11, 13], "stop")
    assert inside.metrics.output_tokens == 2
    bonus = accepted(Outcome(1, 99), stop=99, room=2)
    assert (bonus.generated, bonus.finish_reason) == ([11, 99], "stop")
    beyond = accepted(Outcome(6, 99), stop=99, room=3)
    assert (beyond.generated, beyond.finish_reason) == ([11, 13, 16], "length")


def test_a_stop_string_cuts_what_was_accepted() -> None:
    sequence = accepted(Outcome(6, 99))
    sequence.stop_at(4)
    assert sequence.generated == [11, 13]
    assert sequence.finish_reason == "stop"
    assert sequence.metrics.output_tokens == 2
