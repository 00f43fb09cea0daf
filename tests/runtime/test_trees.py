"""Speculated token trees: the same tokens as without, siblings that pay, rows where they belong."""

from __future__ import annotations

import pytest

from saguaro import SamplingParams
from saguaro.runtime.sequence import Sequence
from tests.runtime.engines import Engines, random_prompts, same_in_all_modes, total
from tests.runtime.scripted import LENGTH, draft_ranking, scripted_loop, sequence, serial, target_ranking

PROMPT = [3, 1, 4, 1, 5, 9, 2]
SIZES = [(1, 1), (1, 6), (3, 3), (3, 7), (4, 16), (6, 40)]


def expect(sequences: list[Sequence]) -> None:
    for done in sequences:
        assert done.generated == serial(done.tokens[: done.prompt_length], done.params.max_tokens)


@pytest.mark.parametrize("mode", ["sd", "ssd"])
@pytest.mark.parametrize("taper", [True, False])
@pytest.mark.parametrize("period", [1, 2, 3, 5, 100])
@pytest.mark.parametrize(("lookahead", "nodes"), SIZES)
def test_trees_of_all_sizes(mode: str, taper: bool, period: int, lookahead: int, nodes: int) -> None:
    done = sequence(PROMPT, 40)
    ranking = draft_ranking(lambda position: position % period == 0)
    with scripted_loop(mode, ranking, lookahead=lookahead, tree_nodes=nodes, taper=taper) as (loop, target, draft):
        list(loop.run([done]))
        verified, known = target.cache[0][: done.prefix], draft.cache[0][: len(PROMPT)]
    expect([done])
    assert verified == [(token, position) for position, token in enumerate(done.tokens[:-1])]
    assert known == verified[: len(PROMPT)]


def test_a_sibling_is_accepted_where_a_chain_would_end() -> None:
    """The draft's second choice is right at every second position: a tree goes on there, a chain stops."""
    ranking = draft_ranking(lambda position: position % 2 == 0)
    rounds = {}
    for nodes in (0, 16):
        done = sequence(PROMPT, 60)
        with scripted_loop("ssd", ranking, lookahead=4, tree_nodes=nodes) as (loop, _, _):
            list(loop.run([done]))
        expect([done])
        rounds[nodes] = done.metrics.rounds
    assert rounds[16] < 0.6 * rounds[0]


@pytest.mark.parametrize("mode", ["sd", "ssd"])
@pytest.mark.parametrize("period", [1, 3, 5])
def test_a_batch_that_changes(mode: str, period: int) -> None:
    """Seven sequences in three slots, of all lengths down to a prompt and an output of one token."""
    lengths = [(1, 9), (7, 1), (4, 20), (12, 5), (2, 13), (5, 5), (9, 30)]
    sequences = [sequence(list(range(i, i + prompt)), new) for i, (prompt, new) in enumerate(lengths)]
    ranking = draft_ranking(lambda position: position % period == 0)
    with scripted_loop(mode, ranking, lookahead=3, budget=3, tree_nodes=9) as (loop, _, _):
        list(loop.run(sequences))
    expect(sequences)
    assert sum(done.metrics.fallbacks for done in sequences) > 0


@pytest.mark.parametrize("mode", ["sd", "ssd"])
@pytest.mark.parametrize("at", range(1, 8))
def test_an_end_token_anywhere_in_a_tree(mode: str, at: int) -> None:
    answer = serial(PROMPT, 12)
    end = answer[at - 1]
    done = sequence(PROMPT, 12, frozenset({end}))
    with scripted_loop(mode, target_ranking, lookahead=5, tree_nodes=12) as (loop, _, _):
        list(loop.run([done]))
    assert done.generated == answer[: answer.index(end) + 1]
    assert done.finish_reason == "stop"


@pytest.mark.parametrize("mode", ["sd", "ssd"])
def test_to_the_last_row(mode: str) -> None:
    done = sequence(PROMPT, LENGTH - len(PROMPT))
    ranking = draft_ranking(lambda position: position % 7 == 0)
    with scripted_loop(mode, ranking, lookahead=5, tree_nodes=20) as (loop, _, _):
        list(loop.run([done]))
    expect([done])
    assert len(done.tokens) == LENGTH


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("tree_nodes", [5, 16])
def test_the_same_tokens_in_all_modes(engines: Engines, temperature: float, tree_nodes: int) -> None:
    llm = engines.llm(tree_nodes=tree_nodes)
    params = [
        SamplingParams(max_tokens=12 + 7 * (i % 4), temperature=temperature, seed=i, ignore_eos=True)
        for i in range(12)
    ]
    outputs = same_in_all_modes(llm, random_prompts(12, seed=3), params)
    metrics = total(outputs["ssd"])
    assert metrics.hits > 0
    assert metrics.misses > 0
    assert metrics.accepted > 0
