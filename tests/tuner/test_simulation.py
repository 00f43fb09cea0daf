"""Simulated rounds against real ones: the same counts where timing plays no part."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from saguaro import LLM
from saguaro.engine.directory import open_engine_directory
from saguaro.runtime.speculation.adaptive import AdaptivePolicy
from saguaro.runtime.speculative_rounds import ConcurrentLoop
from saguaro.tuner.costs import Costs, interpolate
from saguaro.tuner.overheads import Overheads
from saguaro.tuner.play import Played, prepare
from saguaro.tuner.recording import Recording, record
from saguaro.tuner.runs import Runner
from saguaro.tuner.settings import Settings, fits, grid
from saguaro.tuner.simulation import Prediction, Simulation
from tests.runtime.engines import Engines, random_prompts

FLAT = Costs({0: 1.0}, {0: 1.0}, {1: 0.01}, {1: 0.01}, {1: 0.01}, {1: 0.01})
PROMPTS = random_prompts(8, seed=4)


def test_between_and_beyond_what_was_measured() -> None:
    curve = {0: 1.0, 4: 2.0, 8: 4.0}
    assert [interpolate(curve, count) for count in (0, 2, 4, 6, 12)] == [1.0, 1.5, 2.0, 3.0, 6.0]
    assert Costs.from_dict(FLAT.to_dict()) == FLAT


def test_part_of_a_batch_costs_what_as_many_rows_do() -> None:
    costs = Costs({0: 1.0, 3: 4.0}, {0: 2.0, 3: 8.0}, {1: 1.0, 9: 9.0}, {1: 2.0}, {1: 3.0}, {1: 4.0})
    assert [costs.verify(3, False, share) for share in (1.0, 0.5, 0.25)] == [4.0, 2.0, 1.0]
    assert costs.layer(8, False, False, 0.5) == 4.0
    doubled = replace(costs, overheads=Overheads(variants={"auto": 0.9})).scaled(2.0)
    assert (doubled.verify(3, True), doubled.layer(1, True, True), doubled.unit) == (16.0, 8.0, 2.0)
    assert doubled.overheads.variants == {"auto": 0.9}
    assert Costs.from_dict(doubled.to_dict()) == costs.scaled(2.0)


@pytest.mark.parametrize(
    ("in_time", "late", "drafted", "pending"), [(3, 0, 3, 1), (3, 1, 3, 0), (6, 0, 5, 0), (5, 0, 5, 1)]
)
def test_only_what_was_there_in_time_is_handed_over(in_time: int, late: int, drafted: int, pending: int) -> None:
    """A layer that ends too late is not; but its KV rows are there, and need no catching up."""
    settings, policy = Settings("ssd", 5, 12), AdaptivePolicy(12, 5)
    played = Played(always_right(20))
    played.speculation = played.draft(policy, settings)
    assert (len(played.speculation), played.pending) == (5, 1)
    preparation = prepare(played, policy, settings, taper=True)
    for layer in range(in_time + late):
        assert preparation.width()
        preparation.compute(layer < in_time)
    prepared = preparation.get(played.outcome())
    assert prepared is not None
    assert (len(prepared[0]), prepared[1]) == (drafted, pending)


def test_catching_up_takes_a_layer_and_what_is_late_is_not_verified() -> None:
    """The first round brings 6 tokens. Beside its verification one layer catches up with the fallback's last token,
    three draft, and a fourth would end at 1.2: so the second round brings 4, and the eleventh token needs a third."""
    layer = {1: 0.24}
    costs = Costs({0: 1.0}, {0: 1.0}, layer, layer, layer, layer)
    policy, settings = AdaptivePolicy(12, 5), Settings("ssd", 5, 12)
    assert Simulation(settings, costs, policy=policy, taper=True).run([always_right(11)], 1).rounds == 3


def test_what_drafting_takes_is_scaled_and_verifying_alone_is_not() -> None:
    layer = {1: 0.1}
    costs = Costs({0: 1.0}, {0: 1.0}, layer, layer, layer, layer, Overheads(factors={"sd": {1.0: 2.0}}))
    simulation = Simulation(Settings("sd", 5, 12), costs, policy=AdaptivePolicy(12, 5), taper=True)
    played = simulation.run([always_right(12)], 1)
    assert (played.rounds, played.fixed, played.seconds) == (2, 2.0, 2.0 + 2.0 * 5 * 0.1)  # the first one's is hidden


def always_right(length: int) -> Recording:
    """A text whose every token is the draft's own choice, by far."""
    tokens, scores = np.tile(np.arange(8), (length, 1)), np.tile(-3 * np.arange(8.0), (length, 1))
    return Recording([1, 2], [0] * length, tokens, scores)


def test_the_engine_has_room_for_all_of_the_grid(engines: Engines) -> None:
    manifest = open_engine_directory(engines.llm(budget=9, tree_nodes=12).directory)
    settings = list(grid(manifest, Settings("ssd", 5, 9)))
    assert {one.mode for one in settings} == {"ar", "sd", "ssd"}
    assert all(fits(manifest, one.changes()) for one in settings)
    assert len(settings) == len(set(settings))
    assert any(one.mode == "sd" and one.budget != 9 for one in settings)  # where 9 do not fit


def recordings(runner: Runner) -> list[Recording]:
    outputs = runner.run(Settings("ar", 1, 1), 1).outputs
    made, pair = [], runner.llm.pair
    from saguaro.runtime.sequence import Sequence

    for output, params in zip(outputs, runner.params, strict=True):
        sequence = Sequence(list(output.prompt_token_ids), params, params.seed or 0, frozenset())
        sequence.tokens += output.outputs[0].token_ids
        made.append(pair.draft.worker.run(record, pair.draft.session, sequence, 320, 20, pair.chunk))
    return made


def simulated(settings: Settings, made: list[Recording], batch: int = 1) -> Prediction:
    policy = AdaptivePolicy(settings.budget, settings.lookahead)
    return Simulation(settings, FLAT, policy=policy, taper=True).run(made, batch)


@pytest.mark.parametrize("temperature", [0.0, 0.8])
def test_the_rounds_of_sd_are_the_real_ones(engines: Engines, temperature: float) -> None:
    """A chain's acceptance follows from the recording alone: every count is exact, n-grams' too."""
    with LLM(engines.llm().directory) as llm:
        runner = Runner(llm, PROMPTS, max_tokens=32, temperature=temperature)
        made = recordings(runner)
        for settings in (Settings("sd", 5, 1), Settings("sd", 3, 1), Settings("sd", 4, 1, 0, "ngram")):
            real = runner.run(settings, 1)
            played = simulated(settings, made)
            assert (played.tokens, played.rounds) == (real.metrics.output_tokens, real.metrics.rounds)


@pytest.mark.parametrize("nodes", [0, 12])
def test_hits_and_tokens_of_ssd_are_close(
    engines: Engines, monkeypatch: pytest.MonkeyPatch, nodes: int
) -> None:
    monkeypatch.setattr(ConcurrentLoop, "anytime", False)  # else it depends on the machine what is drafted in time
    with LLM(engines.llm(tree_nodes=nodes).directory) as llm:
        runner = Runner(llm, PROMPTS, max_tokens=48, temperature=0.0)
        made = recordings(runner)
        settings = Settings("ssd", 5, 12, nodes)
        real = runner.run(settings, 1)
        played = simulated(settings, made)
    assert played.tokens == simulated(settings, made, batch=4).tokens == real.metrics.output_tokens
    assert played.hit_rate == pytest.approx(real.metrics.hit_rate, abs=0.1)
    assert played.tokens_per_round == pytest.approx(real.metrics.tokens_per_round, rel=0.1)


def test_what_a_preparation_has_to_do_first_delays_it(engines: Engines) -> None:
    with LLM(engines.llm().directory) as llm:
        made = recordings(Runner(llm, PROMPTS, max_tokens=24, temperature=0.0))
    speeds = []
    for start in (0.0, 0.5, 3.0):
        overheads, policy = Overheads(start={"ssd": {5: start}}), AdaptivePolicy(12, 5)
        late = replace(FLAT, overheads=overheads, layer_beside={1: 0.15})
        simulation = Simulation(Settings("ssd", 5, 12), late, policy=policy, taper=True)
        speeds.append(simulation.run(made, 1).tokens_per_second)
    assert speeds[0] > speeds[1] > speeds[2]


def test_a_slow_draft_and_a_full_batch_take_their_time(engines: Engines) -> None:
    with LLM(engines.llm().directory) as llm:
        made = recordings(Runner(llm, PROMPTS, max_tokens=24, temperature=0.0))
    ar = simulated(Settings("ar", 1, 1), made)
    assert ar.tokens_per_second == pytest.approx(1.0)
    assert simulated(Settings("ar", 1, 1), made, batch=4).tokens_per_second == pytest.approx(4.0)
    ssd = simulated(Settings("ssd", 5, 12), made)
    assert ssd.tokens_per_second > 1.2
    slow = Costs({0: 1.0}, {0: 1.0}, {1: 0.5}, {1: 0.5}, {1: 0.5}, {1: 0.5})
    policy = AdaptivePolicy(12, 5)
    slowed = Simulation(Settings("ssd", 5, 12), slow, policy=policy, taper=True).run(made, 1)
    assert slowed.tokens_per_second < ssd.tokens_per_second
    assert slowed.seconds < slowed.rounds * (1.0 + 2.5 + 0.5 + 0.5)  # a fallback of five steps, one step's wait
