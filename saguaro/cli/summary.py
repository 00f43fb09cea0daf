"""One line about one completion."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from saguaro.runtime.metrics import RequestMetrics


def summary(mode: str, metrics: RequestMetrics) -> str:
    speed = metrics.output_tokens / metrics.seconds
    parts = [f"{mode}: {metrics.output_tokens} tokens in {metrics.seconds:.2f} s ({speed:.0f} tokens/s)"]
    if mode != "ar":
        parts.append(f"{metrics.tokens_per_round:.2f} per round")
        parts.append(f"{metrics.acceptance_rate:.0%} accepted")
    if mode == "ssd":
        parts.append(f"{metrics.hit_rate:.0%} hits")
    return ", ".join(parts)
