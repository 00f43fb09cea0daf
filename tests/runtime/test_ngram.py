"""Prompt lookup: the latest earlier occurrence of the longest suffix, and what followed it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from saguaro.runtime.speculation.ngram import NgramIndex

TEXTS = st.integers(1, 4).flatmap(lambda size: st.lists(st.integers(0, size), max_size=60))
LENGTHS = st.tuples(st.integers(1, 4), st.integers(0, 5)).map(lambda pair: (pair[0], pair[0] + pair[1]))


def brute_force(tokens: list[int], lookahead: int, shortest: int, longest: int) -> list[int]:
    """The definition: the proposed tokens are themselves a source to copy from."""
    for n in range(longest, shortest - 1, -1):
        for end in range(len(tokens) - 1, n - 1, -1):
            if tokens[end - n : end] == tokens[len(tokens) - n :]:
                longer = list(tokens)
                for i in range(lookahead):
                    longer.append(longer[end + i])
                return longer[len(tokens) :]
    return []


@settings(deadline=None, max_examples=500)
@given(TEXTS, LENGTHS, st.integers(0, 8))
def test_against_brute_force(tokens: list[int], lengths: tuple[int, int], lookahead: int) -> None:
    shortest, longest = lengths
    index = NgramIndex(tokens, shortest=shortest, longest=longest)
    assert index.propose(lookahead) == brute_force(tokens, lookahead, shortest, longest)
    assert len(index) == len(tokens)


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 2), max_size=7), max_size=15), LENGTHS)
def test_incremental_equals_from_scratch(parts: list[list[int]], lengths: tuple[int, int]) -> None:
    shortest, longest = lengths
    index, tokens = NgramIndex(shortest=shortest, longest=longest), list[int]()
    for part in parts:
        index.extend(part)
        tokens += part
        assert index.propose(5) == NgramIndex(tokens, shortest=shortest, longest=longest).propose(5)


def test_the_longest_match_wins_and_of_equals_the_latest() -> None:
    tokens = [1, 2, 3, 70, 2, 3, 80, 2, 3, 90, 5, 1, 2, 3]
    assert NgramIndex(tokens, longest=3).propose(2) == [70, 2]
    assert NgramIndex(tokens, longest=2).propose(2) == [90, 5]


@pytest.mark.parametrize("period", [1, 2, 3, 7])
def test_a_loop_is_predicted_to_full_length(period: int) -> None:
    """As soon as one token of the second turn is known."""
    loop = list(range(10, 10 + period))
    for extra in range(1, 12):
        text = [1, 2, *(loop * 13)[: period + extra]]
        assert NgramIndex(text).propose(8) == (loop * 30)[period + extra : period + extra + 8]


def test_nothing_to_propose() -> None:
    assert NgramIndex(range(50)).propose(5) == []
    assert NgramIndex([4, 9, 4, 8], shortest=2).propose(5) == []
    assert NgramIndex([4, 4], shortest=2).propose(5) == []  # the suffix itself is no earlier occurrence
    for short in ([], [3]):
        assert NgramIndex(short).propose(5) == []
    assert NgramIndex([3, 3]).propose(3) == [3, 3, 3]
    assert NgramIndex([3, 3]).propose(0) == []


def test_what_it_was_given_stays_as_it_is() -> None:
    prompt = [1, 2, 1]
    index = NgramIndex(prompt)
    index.extend((2, 1))
    prompt.append(99)
    assert index.propose(2) == [2, 1]


@pytest.mark.parametrize(("shortest", "longest"), [(0, 3), (3, 2), (-1, -1)])
def test_bad_lengths(shortest: int, longest: int) -> None:
    with pytest.raises(ValueError, match=f"got {shortest} and {longest}"):
        NgramIndex(shortest=shortest, longest=longest)
