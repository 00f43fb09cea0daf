"""From recordings and costs to the expected speed of every setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import exp, log
from statistics import fmean, median

from saguaro.runtime.speculation.adaptive import AdaptivePolicy
from saguaro.runtime.trace import Round
from saguaro.tuner.costs import Costs
from saguaro.tuner.measure import Progress
from saguaro.tuner.recording import Recording
from saguaro.tuner.runs import Runner
from saguaro.tuner.settings import Settings
from saguaro.tuner.simulation import Prediction, Simulation
from saguaro.tuner.turns import Turn, Turns

VARIED = 12  # of the predicted best, for how many the other fallbacks and rejection verification are looked at

Speeds = dict[Settings, dict[int, float]]  # tokens per second by batch size


def mean_speed(speeds: dict[int, float]) -> float:
    """The geometric mean over the batch sizes, so that each weighs the same."""
    return exp(fmean(log(speed) for speed in speeds.values()))


class Predictor:
    """Calibrates the costs by real rounds, and plays every setting's rounds on the recordings."""

    def __init__(self, runner: Runner, recordings: list[Recording], base: Settings, repeat: int):
        """`base`: what the engine has now, in `ssd`."""
        self.runner, self.recordings, self.base, self.repeat = runner, recordings, base, repeat
        draft = runner.llm.pair.draft
        self._kind = "greedy" if runner.temperature == 0 else "sampled"
        self._taper = draft.session.device.type == "cpu"

    def nearby(self, tree_nodes: int) -> list[Settings]:
        """One setting of each kind, all much like what the engine has now. `tree_nodes` of trees; 0: none fit."""
        chains = [replace(self.base, mode=mode, tree_nodes=0, fallback="draft") for mode in ("ar", "sd", "ssd")]
        trees = [replace(one, tree_nodes=tree_nodes) for one in chains[1:] if tree_nodes]
        return [*chains, *trees, replace(chains[2], fallback="ngram")]

    def calibrate(self, batch: int, costs: Costs, at: Sequence[Settings], progress: Progress) -> Costs:
        """By what real rounds take, with one setting of each kind: with settings unlike these, what rounds take besides
        forward passes is known less well. The kinds take turns with AR, and what they take is counted in its rounds.

        Args:
            at: AR and SSD with chains among them. Of other kinds the costs keep what they say.
        """
        ar, chains = (next(one for one in at if one.kind == kind) for kind in ("ar", "ssd"))
        looking = next((one for one in at if one.kind == "ssd ngram"), chains)
        auto, rejection = replace(chains, fallback="auto"), replace(chains, verification="rejection")
        wanted = [*at, auto, rejection] if self.runner.temperature > 0 else [*at, auto]
        turns = Turns(self.runner, ar, batch)
        passes: dict[Settings, list[Turn]] = {settings: [] for settings in wanted}
        total = self.repeat * len(passes)
        for number in range(total):
            progress(number, total)
            settings = list(passes)[number % len(passes)]
            passes[settings].append(turns.take(settings))
        progress(total, total)
        verification = median(span.seconds for r in turns.ar_rounds for span in r.target if span.name == "verification")
        ar_round = median(r.end - r.start for r in turns.ar_rounds)
        costs = replace(costs.scaled(verification / costs.verify(0, False)), scale=dict(costs.scale))
        for settings in at:
            if settings.mode == "ssd":
                rounds = [r for turn in passes[settings] for r in turn.rounds]
                costs.start[settings.kind] = _start(rounds, settings.tree_nodes > 0)
            seconds = ar_round * median(turn.seconds for turn in passes[settings])
            costs.scale[settings.kind] = 1.0
            played = self.simulate(settings, costs, batch)
            if played.seconds > played.fixed:
                costs.scale[settings.kind] = (played.rounds * seconds - played.fixed) / (played.seconds - played.fixed)
        speeds = {settings: median(turn.speed for turn in taken) for settings, taken in passes.items()}
        costs.scale["auto"] = min(1.0, speeds[auto] / max(speeds[chains], speeds[looking]))
        if rejection in speeds:
            costs.scale["rejection"] = speeds[rejection] / speeds[chains]
        return costs

    def simulate(self, settings: Settings, costs: Costs, batch: int) -> Prediction:
        policy = AdaptivePolicy(settings.budget, settings.lookahead)
        policy.restore(self.runner.statistics[self._kind]["adaptive"])
        return Simulation(settings, costs, policy=policy, taper=self._taper).run(self.recordings, batch)

    def predict(
        self, grid: Sequence[Settings], costs: dict[int, Costs], progress: Progress
    ) -> Speeds:
        """Of the grid, and of variants of its best. The fallback `auto` is taken for the better of the two, less what
        its trials cost in runs of this length, and rejection verification for as much faster or slower, as these were
        when the costs were calibrated.

        Args:
            costs: by batch size.
        """
        predicted: Speeds = {}
        total = len(grid) + VARIED

        def simulate(settings: Settings) -> dict[int, float]:
            progress(len(predicted), total)
            return {batch: self.simulate(settings, own, batch).tokens_per_second for batch, own in costs.items()}

        for settings in grid:
            predicted[settings] = simulate(settings)
        best = sorted(predicted, key=lambda s: -mean_speed(predicted[s]))
        for settings in [s for s in best if s.mode != "ar"][:VARIED]:
            drafting, looking = predicted[settings], simulate(replace(settings, fallback="ngram"))
            predicted[replace(settings, fallback="ngram")] = looking
            predicted[replace(settings, fallback="auto")] = {
                b: max(drafting[b], looking[b]) * own.scale["auto"] for b, own in costs.items()
            }
        if self.runner.temperature > 0:
            for settings in [s for s in best if s.mode == "ssd" and not s.tree_nodes][:VARIED]:
                speeds = {batch: predicted[settings][batch] * own.scale["rejection"] for batch, own in costs.items()}
                predicted[replace(settings, verification="rejection")] = speeds
        progress(total, total)
        return predicted


def _start(rounds: list[Round], tree: bool) -> float:
    """Seconds that a preparation takes besides its layers: up to the first forward pass, and where the layers' costs
    are of forward passes alone, between them."""
    spans = [span for r in rounds for span in r.draft]
    forwards = [span for span in spans if span.name == "forward"]
    lost = []
    for preparation in (span for span in spans if span.name == "preparation"):
        own = [f for f in forwards if preparation.start <= f.start < preparation.end]
        if own:
            between = 0.0 if tree else own[-1].end - own[0].start - sum(f.seconds for f in own)
            lost.append(own[0].start - preparation.start + between)
    return median(lost) if lost else 0.0
