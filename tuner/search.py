"""Which settings are quickest: predict the grid, run the best few, each time with what was learned of the costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from saguaro.tuner.calibration import and_variants, calibrate, nearby
from saguaro.tuner.costs import Costs
from saguaro.tuner.passes import Passes, take_passes
from saguaro.tuner.predict import Predictor, Speeds, mean_speed
from saguaro.tuner.report import Report
from saguaro.tuner.settings import Settings

FEW_PASSES = 3  # for a first idea of what rounds take
VERIFIED = 4  # of the predicted best, how many are run
KINDS: tuple[dict[str, Any], ...] = (  # the best of each is run too
    {"mode": "ar"}, {"mode": "sd"}, {"mode": "ssd", "tree_nodes": 0}, {"fallback": "ngram"}, {"fallback": "auto"},
    {"verification": "rejection"},
)  # fmt: skip


@dataclass
class Verified:
    """One setting. Speeds by batch size, over AR's: a machine that others use too is now slow and now quick, but to AR,
    which takes turns with it, alike."""

    settings: Settings
    predicted: dict[int, float]
    measured: dict[int, float]
    tokens_per_second: dict[int, float]  # as measured
    calibrated: bool  # whether the costs were calibrated at these settings too, by other passes

    @property
    def score(self) -> float:
        return mean_speed(self.measured)


class Search:
    """Of one engine, at one temperature. What is run is kept in the report, so that it goes on from there."""

    def __init__(
        self,
        grid: Sequence[Settings],
        base: Settings,
        predictor: Predictor,
        *,
        report: Report,
        repeat: int,
        progress: Callable[[str, int, int], None],
    ):
        """
        Args:
            base: what the engine has now, in `ssd`; one of the grid.
            repeat: passes over the prompts whose median counts.
        """
        self.grid, self.base, self.predictor = grid, base, predictor
        self.report, self.repeat, self.progress = report, repeat, progress

    def run(self, costs: dict[int, Costs]) -> list[Verified]:
        """What was verified, the quickest first. `costs` by batch size."""
        measured = costs
        trees = sorted({s.tree_nodes for s in self.grid if s.tree_nodes and s.lookahead == self.base.lookahead})
        at = like = nearby(self.base, trees[len(trees) // 2] if trees else 0)
        predicted: Speeds = {}
        for stage in ("calibration", "calibration again"):
            passes = self._take(stage, [(stage, one) for one in self._calibrating(at)], costs, most=FEW_PASSES)
            costs = self._calibrated(costs, at, passes, stage)
            predicted = self._predict(costs)
            # Again, at what looks best of each kind: there it matters that predictions hold.
            played = [s for s in predicted if s.fallback != "auto" and s.verification == "coupled"]
            at = list({one.kind: one for one in sorted(played, key=lambda s: mean_speed(predicted[s]))}.values())
        return sorted(self._verify(measured, [*at, *like], self._best(predicted)), key=lambda one: -one.score)

    def _verify(self, costs: dict[int, Costs], at: list[Settings], chosen: list[Settings]) -> list[Verified]:
        """Run each. What is predicted goes by other passes, which take turns with these: how quick the draft is beside
        the target changes within seconds on a machine that others use too."""
        stage, between = "verification", "calibration between"
        kinds = {"ssd", *(one.kind for one in chosen)}
        at = [one for one in dict.fromkeys(at) if one.kind in kinds]
        calibrating = self._calibrating(at)
        wanted = [(between, one) for one in calibrating] + [(stage, one) for one in chosen]
        passes = self._take(stage, wanted, costs)
        predicted = self._predict(self._calibrated(costs, at, passes, between), also=chosen)
        rows = [
            {**settings.to_dict(), "predicted": {str(batch): speed for batch, speed in speeds.items()}}
            for settings, speeds in predicted.items()
        ]
        self.report.note(rows, "grid")
        ar = next(settings for settings in chosen if settings.mode == "ar")

        def typical(settings: Settings, name: str) -> dict[int, float]:
            return {b: median(getattr(turn, name) for turn in passes[stage, b][settings]) for b in costs}

        return [
            Verified(
                settings,
                {b: predicted[settings][b] / predicted[ar][b] for b in costs},
                typical(settings, "speed"),
                typical(settings, "tokens_per_second"),
                settings in calibrating,
            )
            for settings in chosen
        ]

    def _best(self, predicted: Speeds) -> list[Settings]:
        """The predicted best, the best of each kind, and what the engine has now."""
        ranked = sorted(predicted, key=lambda s: -mean_speed(predicted[s]))
        chosen = ranked[:VERIFIED]
        for kind in KINDS:
            chosen += [s for s in ranked if all(getattr(s, key) == value for key, value in kind.items())][:1]
        trees = [s for s in ranked if s.tree_nodes]
        return list(dict.fromkeys([*chosen, *trees[:1], *(s for s in ranked if s == self.base)]))

    def _calibrating(self, at: list[Settings]) -> list[Settings]:
        return and_variants(at, self.predictor.runner.temperature)

    def _take(
        self, stage: str, wanted: list[tuple[str, Settings]], costs: dict[int, Costs], most: int | None = None
    ) -> Passes:
        return take_passes(
            self.predictor.runner, self.report, stage, wanted,
            batches=list(costs), repeat=min(self.repeat, most or self.repeat), progress=self._progress(stage),
        )  # fmt: skip

    def _calibrated(
        self, costs: dict[int, Costs], at: list[Settings], passes: Passes, purpose: str
    ) -> dict[int, Costs]:
        simulate = self.predictor.simulate
        return {batch: calibrate(own, at, passes[purpose, batch], batch, simulate) for batch, own in costs.items()}

    def _predict(self, costs: dict[int, Costs], also: Sequence[Settings] = ()) -> Speeds:
        return self.predictor.predict(self.grid, costs, self._progress("predictions"), also)

    def _progress(self, stage: str) -> Callable[[int, int], None]:
        return lambda done, total: self.progress(stage, done, total)
