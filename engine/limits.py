"""Other speculation settings than those that an engine was built with, and whether it has room for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from saguaro.engine.deployment import Speculation
from saguaro.engine.deployment_errors import sentence
from saguaro.engine.manifest import Manifest
from saguaro.engine.rows import draft_rows, target_rows
from saguaro.errors import ConfigError


def change_speculation(manifest: Manifest, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The engine's `speculation` section with these changes.

    Raises ConfigError: a field or value that there is not, or more than the engine was built for.
    """
    try:
        wanted = Speculation.model_validate({**manifest.speculation, **changes})
    except ValidationError as error:
        raise ConfigError(f"speculation: {sentence(Speculation, error)}") from None
    room = manifest.target.rows - target_rows(manifest.max_seq_len, 0)
    for name, nodes in (("lookahead", wanted.lookahead), ("tree_nodes", wanted.tree_nodes)):
        if nodes > room:
            raise ConfigError(
                f"speculation.{name} is {nodes}, but the engine was built for speculations of up to {room} tokens; "
                f"build it again with --{name.replace('_', '-')} {nodes}"
            )
    rows = draft_rows(manifest.max_seq_len, wanted.lookahead, wanted.budget, wanted.tree_nodes)
    missing = rows - manifest.draft.rows
    steps = max(manifest.chunk, manifest.speculation["budget"])
    most = min(wanted.budget - max(0, -(-missing // (wanted.lookahead + 1))), steps)
    if most < wanted.budget:
        raise ConfigError(
            f"speculation.budget is {wanted.budget}, but the engine has room for {max(0, most)} with lookahead "
            f"{wanted.lookahead} and tree_nodes {wanted.tree_nodes}; build it again with --budget {wanted.budget}"
        )
    return wanted.model_dump(mode="json")
