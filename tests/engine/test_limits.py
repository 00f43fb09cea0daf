"""Settings that an engine was not built for: one sentence that names the limit and how to raise it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from saguaro.engine.deployment import Speculation
from saguaro.engine.limits import change_speculation
from saguaro.engine.rows import draft_rows, target_rows
from saguaro.errors import ConfigError
from saguaro.tuner.settings import Settings, grid

BUILT = Speculation(lookahead=5, budget=12, tree_nodes=8).model_dump(mode="json")
MANIFEST: Any = SimpleNamespace(
    speculation=BUILT,
    max_seq_len=256,
    chunk=128,
    target=SimpleNamespace(rows=target_rows(256, 5, 8)),
    draft=SimpleNamespace(rows=draft_rows(256, 5, 12, 8)),
)


@pytest.mark.parametrize(
    "changes", [{}, {"budget": 3}, {"lookahead": 8, "budget": 8}, {"tree_nodes": 0, "fan_out": "uniform"}]
)
def test_what_fits(changes: dict[str, Any]) -> None:
    assert change_speculation(MANIFEST, changes) == {**BUILT, **changes}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"lookahead": 9, "tree_nodes": 0}, ["speculation.lookahead is 9", "up to 8 tokens", "--lookahead 9"]),
        ({"tree_nodes": 17}, ["speculation.tree_nodes is 17", "up to 8 tokens", "--tree-nodes 17"]),
        ({"budget": 13}, ["speculation.budget is 13", "room for 12", "lookahead 5", "--budget 13"]),
        ({"lookahead": 8}, ["speculation.budget is 12", "room for 8", "lookahead 8"]),
        ({"budget": 0}, ["speculation: budget is 0", "expected"]),
        ({"buget": 3}, ["speculation: 'buget' is no known key", "did you mean 'budget'?"]),
        ({"fan_out": "uniform"}, ["speculation: fan_out", "adaptive", "tree_nodes"]),
    ],
)
def test_what_does_not(changes: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        change_speculation(MANIFEST, changes)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_an_engine_with_saguaro_sampling_can_be_tuned() -> None:
    """The settings compared are coupled ones, which have no C."""
    manifest: Any = SimpleNamespace(**vars(MANIFEST))
    manifest.speculation = {**BUILT, "tree_nodes": 0, "verification": "rejection", "saguaro_c": 0.5}
    modes = {settings.mode for settings in grid(manifest, Settings("ssd", 5, 12))}
    assert modes == {"ar", "sd", "ssd"}
