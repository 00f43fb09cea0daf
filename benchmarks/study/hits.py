"""The hit rate of each way to choose outcomes, by budget and temperature."""

from __future__ import annotations

from saguaro import LLM
from saguaro.runtime.metrics import RequestMetrics
from saguaro.runtime.speculative_rounds import ConcurrentLoop
from study.text import TEMPERATURES, runner

BUDGETS = (6, 12, 18, 24, 36)
KINDS = ("uniform", "geometric", "adaptive")
LOOKAHEAD = 5


def measure(llm: LLM, count: int) -> dict[str, dict[str, dict[str, float]]]:
    """`{temperature: {kind: {budget: hit rate}}}`. Each policy learns from nothing, in the order of the prompts.

    The draft ends what it prepares even when the outcome is there: what is chosen is measured, not this machine.
    """
    anytime, ConcurrentLoop.anytime = ConcurrentLoop.anytime, False
    try:
        return {
            str(temperature): {
                kind: {str(budget): _hit_rate(llm, temperature, count, kind, budget) for budget in BUDGETS}
                for kind in KINDS
            }
            for temperature in TEMPERATURES
        }
    finally:
        ConcurrentLoop.anytime = anytime


def _hit_rate(llm: LLM, temperature: float, count: int, kind: str, budget: int) -> float:
    run, metrics = runner(llm, temperature, count), RequestMetrics()
    llm.change(mode="ssd", lookahead=LOOKAHEAD, budget=budget, fan_out=kind, tree_nodes=0, fallback="draft")
    for prompt, params in zip(run.prompts, run.params, strict=True):
        metrics.add(llm.generate([prompt], params, mode="ssd")[0].metrics)
    return metrics.hit_rate
