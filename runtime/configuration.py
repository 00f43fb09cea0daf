"""The settings of a pair's runs, and all that is learned with them."""

from __future__ import annotations

from typing import Any

from saguaro.runtime.auto import Auto, halvings
from saguaro.runtime.draft_side import DraftSide
from saguaro.runtime.policies import Policies


class Configuration:
    """Whoever keeps one and gives it to the pair again goes on with what was learned."""

    def __init__(self, speculation: dict[str, Any]):
        """`speculation`: the deployment file's section of that name."""
        self.speculation, self.policies = speculation, Policies(speculation)
        longest = speculation["lookahead"]
        lookaheads = [longest] if speculation.get("tree_nodes") else halvings(longest)  # trees are verified whole
        self.autos = {greedy: Auto(lookaheads) for greedy in (True, False)}  # acceptance differs between these
        self.drafters: dict[bool, DraftSide[Any, Any]] = {}  # by whether verification is by rejection
