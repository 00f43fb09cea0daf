"""What a verification and a draft step cost here, by how much they compute, alone and beside each other."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from saguaro.tuner.overheads import Overheads

Curve = dict[int, float]  # seconds by count
CURVES = (
    "verify_alone", "verify_beside", "layer_alone", "layer_beside", "tree_layer_alone", "tree_layer_beside",
)  # fmt: skip


def interpolate(curve: Curve, count: float) -> float:
    """Between two measured counts on the line, beyond the last one on as the last two go."""
    counts = sorted(curve)
    if count > counts[-1] and len(counts) > 1:
        last, before = counts[-1], counts[-2]
        slope = (curve[last] - curve[before]) / (last - before)
        return curve[last] + max(0.0, slope) * (count - last)
    return float(np.interp(count, counts, [curve[c] for c in counts]))


@dataclass
class Costs:
    """Of one batch size, in seconds."""

    verify_alone: Curve = field(default_factory=dict)  # by speculated tokens of each sequence
    verify_beside: Curve = field(default_factory=dict)  # the draft being at work
    layer_alone: Curve = field(default_factory=dict)  # by rows of each sequence, in a chain's rollout
    layer_beside: Curve = field(default_factory=dict)  # the target being at work
    tree_layer_alone: Curve = field(default_factory=dict)  # a forward pass of its own for each layer
    tree_layer_beside: Curve = field(default_factory=dict)
    overheads: Overheads = field(default_factory=Overheads)

    @property
    def unit(self) -> float:
        """A verification of one token for each sequence."""
        return self.verify(0, False)

    def verify(self, nodes: int, beside: bool, share: float = 1.0) -> float:
        """`share` of the batch that still generates."""
        curve = self.verify_beside if beside else self.verify_alone
        return interpolate(curve, (nodes + 1) * share - 1)

    def layer(self, rows: int, beside: bool, tree: bool, share: float = 1.0) -> float:
        if tree:
            return interpolate(self.tree_layer_beside if beside else self.tree_layer_alone, rows * share)
        return interpolate(self.layer_beside if beside else self.layer_alone, rows * share)

    def scaled(self, factor: float) -> Costs:
        """All that is seconds, times the factor."""
        curves: dict[str, Any] = {
            name: {count: factor * seconds for count, seconds in getattr(self, name).items()} for name in CURVES
        }
        return replace(self, **curves)

    def to_dict(self) -> dict[str, Any]:
        """The curves."""
        return {name: {str(count): cost for count, cost in getattr(self, name).items()} for name in CURVES}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Costs:
        curves: dict[str, Any] = {
            name: {int(count): float(cost) for count, cost in curve.items()} for name, curve in values.items()
        }
        return cls(**curves)
