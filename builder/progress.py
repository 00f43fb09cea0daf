"""How a build tells what it is doing."""

from __future__ import annotations

from collections.abc import Callable

# (stage, steps done, steps in all): called often, from the building thread.
Progress = Callable[[str, int, int], None]


def silent(stage: str, done: int, total: int) -> None:
    """The progress of a build that nobody watches."""
