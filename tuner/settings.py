"""The settings that a tuner chooses among."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from saguaro.engine.limits import change_speculation
from saguaro.engine.manifest import Manifest
from saguaro.errors import ConfigError

LOOKAHEADS = (2, 3, 4, 5, 6, 8, 12)
BUDGETS = (6, 12, 16, 24, 48)
TREES = (0, 8, 16, 32, 64)


@dataclass(frozen=True)
class Settings:
    """Fields of a deployment's `speculation` section."""

    mode: str
    lookahead: int
    budget: int
    tree_nodes: int = 0
    fallback: str = "draft"
    verification: str = "coupled"

    @property
    def kind(self) -> str:
        """Rounds of one kind are scaled alike."""
        tree, ngram = " tree" if self.tree_nodes else "", " ngram" if self.fallback == "ngram" else ""
        return self.mode + tree + ngram

    def changes(self) -> dict[str, Any]:
        """All that a run with these settings has to set."""
        return {**self.to_dict(), "fan_out": "adaptive", "saguaro_c": 1.0}

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        if self.mode == "ar":
            return "ar"
        shape = f"{self.tree_nodes} nodes, K = {self.lookahead}" if self.tree_nodes else f"K = {self.lookahead}"
        budget = f", B = {self.budget}" if self.mode == "ssd" else ""
        rule = "" if self.verification == "coupled" else f", {self.verification}"
        return f"{self.mode}, {shape}{budget}, {self.fallback}{rule}"


def grid(manifest: Manifest, base: Settings) -> Iterator[Settings]:
    """All settings that the engine has room for, AR and SD among them, with the fallback `draft`; K and B also as in
    `base`."""
    yield Settings("ar", base.lookahead, base.budget)
    for lookahead in sorted({*LOOKAHEADS, base.lookahead}):
        for nodes in TREES:
            choices = [Settings("ssd", lookahead, budget, nodes) for budget in sorted({*BUDGETS, base.budget})]
            room = [ssd for ssd in choices if fits(manifest, ssd.changes())]
            if room:  # in sd nothing is prepared, but what is written has to fit
                budget = next((ssd.budget for ssd in room if ssd.budget == base.budget), room[-1].budget)
                yield Settings("sd", lookahead, budget, nodes)
            yield from room


def fits(manifest: Manifest, changes: dict[str, Any]) -> bool:
    try:
        change_speculation(manifest, changes)
    except ConfigError:
        return False
    return True
