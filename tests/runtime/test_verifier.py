"""One verification over trees and chains of different sizes at once, and where its rows end up."""

from __future__ import annotations

import pytest
import torch

from saguaro.runtime.sequence import Sequence
from saguaro.runtime.sessions.masks import dense_mask
from saguaro.runtime.speculation import Outcome, Speculation
from saguaro.runtime.speculation.tree import EMPTY
from saguaro.runtime.verifier import Verifier
from tests.runtime.scripted import ScriptedSession, sequence, serial, target_ranking

PROMPT = [5, 6, 7]
RIGHT = serial(PROMPT, 4)


def other(token: int) -> int:
    return (token + 1) % 50


SPECULATIONS = [
    (EMPTY, 0),
    (Speculation.chain(RIGHT[:3]), 3),
    (Speculation.chain([RIGHT[0], other(RIGHT[1]), RIGHT[2]]), 1),
    (Speculation.chain([other(RIGHT[0])]), 0),
    # The right path is nodes 2, 4, 5; the others are siblings of its nodes.
    (Speculation((other(RIGHT[0]), RIGHT[0], other(RIGHT[1]), RIGHT[1], RIGHT[2]), (0, 0, 2, 2, 4)), 5),
    # The right tokens, but the third hangs on the wrong second.
    (Speculation((RIGHT[0], other(RIGHT[1]), RIGHT[1], RIGHT[2]), (0, 1, 1, 2)), 3),
    # The same right token twice: either way the path is right.
    (Speculation((RIGHT[0], RIGHT[0], RIGHT[1]), (0, 0, 1)), 3),
]


def started(session: ScriptedSession, slot: int, speculation: Speculation) -> Sequence:
    made = sequence(PROMPT, 20)
    made.slot, made.speculation = slot, speculation
    Verifier(session, 2).prefill(made)
    return made


def check(session: ScriptedSession, made: Sequence, outcome: Outcome, node: int) -> None:
    path = made.speculation.path(node)
    assert outcome == Outcome(node, RIGHT[len(path)])
    made.accept(outcome)
    assert made.generated == RIGHT[: len(path) + 1]
    rows = session.cache[made.slot][: made.prefix]
    assert rows == [(token, position) for position, token in enumerate(made.tokens[:-1])]


@pytest.mark.parametrize(("speculation", "node"), SPECULATIONS)
def test_alone(speculation: Speculation, node: int) -> None:
    session = ScriptedSession(target_ranking, 40, 1)
    made = started(session, 0, speculation)
    (outcome,) = Verifier(session, 2).verify([made])
    check(session, made, outcome, node)


def test_all_in_one_batch() -> None:
    session = ScriptedSession(target_ranking, 40, len(SPECULATIONS))
    batch = [started(session, slot, speculation) for slot, (speculation, _) in enumerate(SPECULATIONS)]
    outcomes = Verifier(session, 2).verify(batch)
    for made, outcome, (_, node) in zip(batch, outcomes, SPECULATIONS, strict=True):
        check(session, made, outcome, node)


def test_the_dense_mask() -> None:
    visible = torch.tensor([[[1, 0], [1, 1]], [[1, 0], [0, 1]]]).bool()
    assert dense_mask([2, 2], visible).int().tolist() == [
        [[[1, 1, 1, 0], [1, 1, 1, 1]]],
        [[[1, 1, 1, 0], [1, 1, 0, 1]]],
    ]
    assert dense_mask([0, 1], visible).int().tolist() == [[[[1, 0, 0], [1, 1, 0]]], [[[1, 1, 0], [1, 0, 1]]]]
