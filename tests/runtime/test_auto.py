"""`fallback: auto` in the round loop: whatever it decides, tokens and KV rows are those of a serial run."""

from __future__ import annotations

import random

import pytest
import torch

from saguaro import LLM, SamplingParams
from saguaro.runtime.auto import NOTED, Auto
from saguaro.runtime.sequence import Sequence
from saguaro.runtime.speculation import NgramIndex
from saguaro.runtime.speculation.estimates import OFF, Acceptance, Fallback, Plan, Way
from saguaro.runtime.speculative_rounds import SpeculativeLoop
from tests.runtime.engines import Engines, random_prompts, same_in_all_modes, total
from tests.runtime.scripted import LENGTH, draft_ranking, scripted_loop, sequence, serial
from tests.runtime.test_cache_rows import Watch

WAYS = {"sd": (Way.SEQUENTIAL,), "ssd": (Way.SEQUENTIAL, Way.CONCURRENT)}


def decide_by_dice(monkeypatch: pytest.MonkeyPatch, seed: int, shortest: int = 1) -> None:
    """Ways go on for two to nine rounds, with another lookahead in each, and not all prompts are computed, so that the
    draft has little or much to catch up with."""
    dice, going = random.Random(seed), [(Way.SEQUENTIAL, 0)]

    def plan(auto: Auto, way: Way) -> Plan:
        return OFF if way is Way.OFF else Plan(way, dice.randint(min(shortest, auto.longest), auto.longest))

    def next_plan(auto: Auto, mode: str, size: int) -> Plan:
        way, left = going[0]
        if not left:
            way, left = dice.choice((Way.OFF, Way.OFF, *WAYS[mode])), dice.randint(2, 9)
        going[0] = way, left - 1
        return plan(auto, way)

    def pick(auto: Auto, size: int, waiting: int, found: int) -> Fallback:
        return Fallback.NOTHING if auto._draining else dice.choice(list(Fallback))

    monkeypatch.setattr(Auto, "next_plan", next_plan)
    monkeypatch.setattr(Auto, "usual_plan", lambda auto, mode, size: plan(auto, dice.choice((Way.OFF, Way.SEQUENTIAL))))
    monkeypatch.setattr(Auto, "pick", pick)


def with_auto(loop: object, sequences: list[Sequence]) -> SpeculativeLoop:
    assert isinstance(loop, SpeculativeLoop)
    loop.auto = Auto([loop.drafter.lookahead])
    for one in sequences:
        one.ngrams = NgramIndex(one.tokens)
    return loop


@pytest.mark.parametrize("mode", ["sd", "ssd"])
@pytest.mark.parametrize("tree_nodes", [0, 9])
@pytest.mark.parametrize("seed", range(20))
def test_a_batch_that_changes(monkeypatch: pytest.MonkeyPatch, mode: str, seed: int, tree_nodes: int) -> None:
    """Scripted sessions notice every wrong row, mask and position; here the draft computes four tokens at once."""
    decide_by_dice(monkeypatch, seed, shortest=3 if tree_nodes else 1)
    lengths = [(1, 9), (7, 1), (4, 40), (12, 25), (2, 33), (5, 5), (9, 50), (3, 80), (6, 80)]
    sequences = [sequence([i % 5] * prompt, new) for i, (prompt, new) in enumerate(lengths)]
    ranking = draft_ranking(lambda position: position % 3 == 0)
    with scripted_loop(mode, ranking, lookahead=3, tree_nodes=tree_nodes) as (loop, target, _):
        given: dict[Sequence, list[int]] = {done: [] for done in sequences}
        for done, tokens in with_auto(loop, sequences).run(sequences):
            given[done] += tokens
            for one in loop.active:  # what is verified lies where it belongs
                rows = target.cache[one.slot][: one.prefix]
                assert rows == [(token, position) for position, token in enumerate(one.tokens[:-1])]
    for done in sequences:
        assert given[done] == done.generated == serial(done.tokens[: done.prompt_length], done.params.max_tokens)
    assert sum(done.metrics.auto_off for done in sequences) > 0
    assert loop.metrics.auto_off > 0


@pytest.mark.parametrize("seed", range(5))
def test_a_good_draft_foresees_what_comes_after_a_chain_cut_short(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """It is the chain's own next token, no candidate before the draft knows of the cut; and the policy learns of no
    token that the target did not verify."""
    dice, lengths = random.Random(seed), set()
    monkeypatch.setattr(
        Auto, "next_plan", lambda auto, mode, size: Plan(Way.CONCURRENT, dice.randint(1, auto.longest))
    )
    sequences = [sequence([i], 40 + 7 * i) for i in range(4)]
    with scripted_loop("ssd", draft_ranking(lambda position: False), lookahead=5) as (loop, target, _):
        forward = target.forward
        monkeypatch.setattr(target, "forward", lambda step: (lengths.add(step.tokens.shape[1]), forward(step))[1])
        list(with_auto(loop, sequences).run(sequences))
        policy = loop.drafter.policy(sequences[0])
    assert {2, 3, 4, 5} <= lengths  # the bonus token and one to four others
    assert sum(one.metrics.misses for one in sequences) == 0
    assert policy.tested - policy.accepted == 3  # as before anything was learned


@pytest.mark.parametrize("mode", ["sd", "ssd"])
def test_the_draft_catches_up_with_everything_at_once(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """Switched off until one sequence is near the last row and another is new, and has a long prompt."""
    lookahead, chunk, off = 3, 16, LENGTH - 20
    rounds = iter([OFF] * off)
    monkeypatch.setattr(Auto, "next_plan", lambda auto, mode, size: next(rounds, Plan(WAYS[mode][-1], lookahead)))
    monkeypatch.setattr(Auto, "usual_plan", lambda auto, mode, size: OFF)  # so that what enters is left alone
    sequences = [sequence([1, 2], LENGTH - 2), sequence([3], off - 2), sequence([4] * 60, 9), sequence([5] * 70, 9)]
    ranking = draft_ranking(lambda position: position % 3 == 0)
    with scripted_loop(mode, ranking, lookahead=lookahead, chunk=chunk, slots=2, budget=2) as (loop, _, draft):
        forward, widths = draft.forward, []
        monkeypatch.setattr(draft, "forward", lambda step: (widths.append(step.tokens.shape[1]), forward(step))[1])
        with_auto(loop, sequences)
        list(loop.run(sequences))
    for done in sequences:
        assert done.generated == serial(done.tokens[: done.prompt_length], done.params.max_tokens)
    assert max(widths) == chunk
    assert loop.metrics.auto_off == off


@pytest.mark.parametrize("temperature", [0.0, 0.8])
@pytest.mark.parametrize("seed", range(4))
def test_same_tokens(engines: Engines, monkeypatch: pytest.MonkeyPatch, seed: int, temperature: float) -> None:
    decide_by_dice(monkeypatch, seed)
    llm, prompts = engines.llm(fallback="auto", lookahead=4, budget=8), [p * 2 for p in random_prompts(9, seed=seed)]
    params = [
        SamplingParams(max_tokens=10 + 9 * (i % 4), temperature=temperature, seed=i, ignore_eos=True) for i in range(9)
    ]
    outputs = same_in_all_modes(llm, prompts, params)
    counted = {mode: total(outputs[mode]) for mode in ("sd", "ssd")}
    assert sum(metrics.auto_off for metrics in counted.values()) > 0
    assert counted["sd"].auto_sequential == 0 < counted["ssd"].auto_sequential


@pytest.mark.parametrize("mode", ["sd", "ssd"])
def test_the_drafts_rows_are_the_drafts_own(engines: Engines, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """After rounds without it, the draft's rows are those that it computes for the same tokens in one go."""
    directory, watch = engines.llm(fallback="auto").directory, Watch(monkeypatch)
    prompt = random_prompts(1, seed=4)[0]
    asked = SamplingParams(max_tokens=50, temperature=0.8, seed=9, ignore_eos=True)
    with LLM(directory) as llm:
        with monkeypatch.context() as patch:
            decide_by_dice(patch, 2)
            tokens = prompt + llm.generate(prompt, asked, mode=mode)[0].outputs[0].token_ids
        count = len(tokens) - llm.manifest.speculation["lookahead"] - 12  # the last rounds may have gone without it
        after = watch.sessions["draft"].cache[:, 0, :, :count].clone()
        list(llm.stream(tokens[: count + 1], SamplingParams(max_tokens=1, temperature=0), mode=mode))
        again = watch.sessions["draft"].cache[:, 0, :, :count].clone()
    assert torch.allclose(after, again, atol=1e-4, rtol=0)


@pytest.mark.parametrize("fallback", ["draft", "ngram"])
def test_what_is_asked_for_is_never_switched_off(
    engines: Engines, monkeypatch: pytest.MonkeyPatch, fallback: str
) -> None:
    monkeypatch.setattr(Auto, "next_plan", lambda auto, mode, size: OFF)
    llm = engines.llm(fallback=fallback)
    for mode in ("sd", "ssd"):
        (output,) = llm.generate([[5, 6, 7, 5, 6]], SamplingParams(max_tokens=20, temperature=0, ignore_eos=True), mode)
        assert output.metrics.auto_off == output.metrics.auto_sequential == 0
        assert output.metrics.drafted > 0


@pytest.mark.parametrize("mode", ["sd", "ssd"])
def test_switched_off_nothing_is_drafted(engines: Engines, monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """And no prompt computed for the draft."""
    llm, params = engines.llm(fallback="auto"), SamplingParams(max_tokens=12, temperature=0, ignore_eos=True)
    monkeypatch.setattr(Auto, "next_plan", lambda auto, mode, size: OFF)
    monkeypatch.setattr(Auto, "usual_plan", lambda auto, mode, size: OFF)
    draft = llm.pair.draft
    computed, forward, prompts = [], draft.session.forward, random_prompts(6)
    monkeypatch.setattr(draft.session, "forward", lambda step: (computed.append(step.tokens.numel()), forward(step))[1])
    outputs = llm.generate(prompts, params, mode)
    assert not computed
    assert total(outputs).auto_off == total(outputs).rounds == 6 * 12
    assert total(outputs).drafted == 0


@pytest.mark.parametrize("mode", ["sd", "ssd"])
def test_who_enters_is_drafted_for_where_the_whole_batch_will_be(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    """Not as one would go on alone: the others that wait enter with it."""
    sizes: list[int] = []
    monkeypatch.setattr(Auto, "usual_plan", lambda auto, mode, size: (sizes.append(size), OFF)[1])
    sequences = [sequence([i], new) for i, new in enumerate((4, 9, 9, 9, 9))]
    with scripted_loop(mode, draft_ranking(lambda position: False), lookahead=3, slots=3) as (loop, *_):
        list(with_auto(loop, sequences[:2]).run(sequences[:2]))
        assert sizes == [2, 2]
        sizes.clear()
        list(with_auto(loop, sequences).run(sequences[2:]))
        assert sizes == [3, 3, 3]


def test_several_rounds_are_learned_from_together() -> None:
    """But for a trial's, on which the next round depends."""
    auto, sequences, plan = Auto([5]), [sequence([1], 90), sequence([2], 90)], Plan(Way.SEQUENTIAL, 5)
    estimates = auto.estimates
    for _ in range(NOTED):
        assert estimates.draft.at(2) is None
        auto.begin("sd", sequences)
        assert not auto.choose(sequences, {sequences[0]: [], sequences[1]: [5]})  # they wait for the draft
        auto.note(sequences, [[7, 8], [9, 10, 11, 12]], 1.0, 0.25)
    assert estimates.draft.at(2) == pytest.approx(0.25 / 5)
    assert estimates.rounds[plan].at(2) == 0.75
    assert estimates.rounds[plan].added == NOTED - 1  # the first one finds cold caches
    expected = Acceptance(5, 0.65)
    for _ in range(NOTED):
        expected.add(2, 5)
        expected.add(4, 5)
    assert estimates.drafted.tokens(5) == expected.tokens(5)
    auto._trying = True
    for known in range(2):
        assert estimates.rounds[plan].added == NOTED - 1 + known
        auto.begin("sd", sequences)
        auto.choose(sequences, {sequences[0]: [], sequences[1]: [5]})
        auto.note(sequences, [[7], [8]], 1.0, 0.25)
