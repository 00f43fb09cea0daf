"""From recordings and costs to the expected speed of every setting."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from math import exp, log
from statistics import fmean

from saguaro.runtime.speculation.adaptive import AdaptivePolicy
from saguaro.tuner.costs import Costs
from saguaro.tuner.measure import Progress
from saguaro.tuner.recording import Recording
from saguaro.tuner.runs import Runner
from saguaro.tuner.settings import Settings
from saguaro.tuner.simulation import Prediction, Simulation

VARIED = 12  # of the predicted best, for how many the other fallbacks and rejection verification are looked at

Speeds = dict[Settings, dict[int, float]]  # tokens per second by batch size


def mean_speed(speeds: dict[int, float]) -> float:
    """The geometric mean over the batch sizes, so that each weighs the same."""
    return exp(fmean(log(speed) for speed in speeds.values()))


class Predictor:
    """Plays every setting's rounds on the recordings."""

    def __init__(self, runner: Runner, recordings: list[Recording]):
        self.runner, self.recordings = runner, recordings
        self._kind = "greedy" if runner.temperature == 0 else "sampled"
        self._taper = runner.llm.pair.draft.session.device.type == "cpu"

    def simulate(self, settings: Settings, costs: Costs, batch: int) -> Prediction:
        policy = AdaptivePolicy(settings.budget, settings.lookahead)
        policy.restore(self.runner.statistics[self._kind]["adaptive"])
        return Simulation(settings, costs, policy=policy, taper=self._taper).run(self.recordings, batch)

    def predict(
        self, grid: Sequence[Settings], costs: dict[int, Costs], progress: Progress, also: Sequence[Settings] = ()
    ) -> Speeds:
        """Of the grid, of variants of its best, and of some settings more.

        Args:
            costs: by batch size.
        """
        predicted: Speeds = {}
        total = len(grid) + 3 * VARIED

        def predict(settings: Settings) -> dict[int, float]:
            if settings not in predicted:
                progress(min(len(predicted), total), total)
                predicted[settings] = self._speeds(settings, costs, predict)
            return predicted[settings]

        best = sorted(grid, key=lambda s: -mean_speed(predict(s)))
        speculating = [s for s in best if s.mode != "ar"]
        for settings in speculating[:VARIED]:
            predict(replace(settings, fallback="auto"))
        if self.runner.temperature > 0:
            for settings in [s for s in speculating if s.mode == "ssd" and not s.tree_nodes][:VARIED]:
                predict(replace(settings, verification="rejection"))
        for settings in also:
            predict(settings)
        progress(total, total)
        return predicted

    def _speeds(
        self, settings: Settings, costs: dict[int, Costs], predict: Callable[[Settings], dict[int, float]]
    ) -> dict[int, float]:
        """The fallback `auto` is taken for the better of the two, less what its trials cost in runs of this length,
        and rejection verification for as much faster or slower, as these were when the costs were calibrated."""
        if settings.verification == "rejection":
            coupled = predict(replace(settings, verification="coupled"))
            return {batch: coupled[batch] * own.overheads.variants["rejection"] for batch, own in costs.items()}
        if settings.fallback == "auto":
            drafting, looking = (predict(replace(settings, fallback=name)) for name in ("draft", "ngram"))
            return {b: max(drafting[b], looking[b]) * own.overheads.variants["auto"] for b, own in costs.items()}
        return {batch: self.simulate(settings, own, batch).tokens_per_second for batch, own in costs.items()}
