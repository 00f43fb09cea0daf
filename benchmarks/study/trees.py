"""Tokens a round of token trees against chains, in sd, where nothing depends on timing."""

from __future__ import annotations

from saguaro import LLM
from saguaro.tuner.settings import Settings
from study.text import TEMPERATURES, runner

SETTINGS = {
    "chain of 5": Settings("sd", 5, 12),
    "chain of 8": Settings("sd", 8, 12),
    "tree of 8": Settings("sd", 8, 12, 8),
    "tree of 16": Settings("sd", 8, 12, 16),
    "tree of 32": Settings("sd", 8, 12, 32),
}


def measure(llm: LLM, count: int) -> dict[str, dict[str, float]]:
    """`{temperature: {shape: tokens per round}}`."""
    result: dict[str, dict[str, float]] = {}
    for temperature in TEMPERATURES:
        run = runner(llm, temperature, count)
        for name, settings in SETTINGS.items():
            result.setdefault(str(temperature), {})[name] = run.run(settings, 1).metrics.tokens_per_round
    return result
