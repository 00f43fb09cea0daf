"""Coupled against rejection verification, and Saguaro sampling's trade of acceptance for hits."""

from __future__ import annotations

from typing import Any

from saguaro import LLM
from saguaro.runtime.metrics import RequestMetrics
from study.text import TEMPERATURES, runner

WEIGHTS = (1.0, 0.75, 0.5, 0.25, 0.0)  # C


def measure(llm: LLM, count: int) -> dict[str, Any]:
    """`modes`: by temperature and verification; `saguaro_sampling`: by temperature, a point for each C."""
    modes = {
        str(temperature): {
            kind: run(llm, temperature, count, verification=kind) for kind in ("coupled", "rejection")
        }
        for temperature in TEMPERATURES
    }
    sampling = {
        str(temperature): [
            {"c": c, **run(llm, temperature, count, verification="rejection", saguaro_c=c)} for c in WEIGHTS
        ]
        for temperature in TEMPERATURES
        if temperature > 0
    }
    return {"modes": modes, "saguaro_sampling": sampling}


def run(llm: LLM, temperature: float, count: int, **changes: Any) -> dict[str, float]:
    text, metrics, seconds = runner(llm, temperature, count), RequestMetrics(), 0.0
    llm.change(mode="ssd", lookahead=5, budget=24, fan_out="adaptive", tree_nodes=0, fallback="draft", **changes)
    llm.generate([text.prompts[0]], text.params[0], mode="ssd")
    for prompt, params in zip(text.prompts, text.params, strict=True):
        metrics.add(llm.generate([prompt], params, mode="ssd")[0].metrics)
        seconds += llm.last_run.in_rounds
    llm.change(verification="coupled", saguaro_c=1.0)
    return {
        "acceptance_rate": metrics.acceptance_rate, "hit_rate": metrics.hit_rate,
        "tokens_per_round": metrics.tokens_per_round, "tokens_per_second": metrics.output_tokens / seconds,
    }  # fmt: skip
