"""Costs made to agree with real rounds."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from statistics import median

from saguaro.tuner.costs import Costs
from saguaro.tuner.settings import Settings
from saguaro.tuner.simulation import Prediction
from saguaro.tuner.turns import Turn

Simulate = Callable[[Settings, Costs, int], Prediction]  # the last: the batch size


def nearby(base: Settings, tree_nodes: int) -> list[Settings]:
    """One setting of each kind, all much like `base`, which is in `ssd`. `tree_nodes` of trees; 0: none fit."""
    chains = [replace(base, mode=mode, tree_nodes=0, fallback="draft") for mode in ("ar", "sd", "ssd")]
    trees = [replace(one, tree_nodes=tree_nodes) for one in chains[1:] if tree_nodes]
    return [*chains, *trees, replace(chains[2], fallback="ngram")]


def and_variants(at: list[Settings], temperature: float) -> list[Settings]:
    """With the fallback `auto` and, where it is another thing, rejection verification: not simulated, but taken for as
    much faster or slower than the first SSD with chains as they are there."""
    chains = _first(at, "ssd")
    variants = [replace(chains, fallback="auto"), replace(chains, verification="rejection")]
    return [*at, *variants[: 2 if temperature > 0 else 1]]


def calibrate(
    costs: Costs, at: list[Settings], passes: dict[Settings, list[Turn]], batch: int, simulate: Simulate
) -> Costs:
    """Costs by which each of these settings is as quick as it was. What is not measured anew stays.

    Args:
        at: AR and SSD with chains among them.
        passes: of all these and their variants.
    """
    turns = [turn for taken in passes.values() for turn in taken]
    ar_round, verification = (median(getattr(turn, name) for turn in turns) for name in ("ar_round", "ar_verification"))
    costs = replace(costs.scaled(verification / costs.unit), overheads=deepcopy(costs.overheads))
    overheads = costs.overheads
    for settings in at:
        start = ar_round * median(turn.start for turn in passes[settings])
        if settings.mode == "ssd":
            overheads.start.setdefault(settings.kind, {})[settings.lookahead] = start / costs.unit
    speeds = {settings: median(turn.speed for turn in taken) for settings, taken in passes.items()}
    curves = replace(costs, overheads=replace(overheads, factors={}))
    played = {settings: simulate(settings, curves, batch) for settings in at}
    ar = played[_first(at, "ar")]
    ar_rate = ar.tokens / (ar.rounds * ar_round)
    for settings, one in played.items():
        if one.seconds > one.fixed:
            factor = (one.tokens / (ar_rate * speeds[settings]) - one.fixed) / (one.seconds - one.fixed)
            overheads.factors.setdefault(settings.kind, {})[one.seconds / one.rounds / costs.unit] = factor
    chains = _first(at, "ssd")
    looking = next((one for one in at if one.kind == "ssd ngram"), chains)
    auto, rejection = replace(chains, fallback="auto"), replace(chains, verification="rejection")
    overheads.variants["auto"] = min(1.0, speeds[auto] / max(speeds[chains], speeds[looking]))
    if rejection in speeds:
        overheads.variants["rejection"] = speeds[rejection] / speeds[chains]
    return costs


def _first(at: list[Settings], kind: str) -> Settings:
    return next(one for one in at if one.kind == kind)
