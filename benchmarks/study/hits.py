"""The hit rate of each way to choose outcomes, by budget and temperature."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from saguaro import LLM
from saguaro.runtime.metrics import RequestMetrics
from saguaro.runtime.speculative_rounds import ConcurrentLoop
from saguaro.tuner.runs import Runner
from study.text import TEMPERATURES, runner, runner_of_all

BUDGETS = (6, 12, 18, 24, 36)
KINDS = ("uniform", "geometric", "adaptive")
LOOKAHEAD = 5


def measure(llm: LLM, count: int) -> dict[str, dict[str, dict[str, float]]]:
    """`{temperature: {kind: {budget: hit rate}}}`. Each policy learns from nothing, in the order of the prompts."""
    with _patient():
        return {
            str(temperature): {
                kind: {str(budget): _hit_rate(runner(llm, temperature, count), kind, budget) for budget in BUDGETS}
                for kind in KINDS
            }
            for temperature in TEMPERATURES
        }


def measure_all(llm: LLM, count: int) -> dict[str, float]:
    """`{kind: hit rate}` at temperature 0 and B = 12, where 40 prompts leave one percent of uncertainty."""
    run = runner_of_all(llm, 0.0)
    with _patient():
        rates = {kind: _hit_rate(run, kind, 12) for kind in KINDS}
    return {"prompts": len(run.prompts), **rates}


@contextmanager
def _patient() -> Iterator[None]:
    """The draft ends what it prepares even when the outcome is there: what is chosen is measured, not this machine."""
    anytime, ConcurrentLoop.anytime = ConcurrentLoop.anytime, False
    try:
        yield
    finally:
        ConcurrentLoop.anytime = anytime


def _hit_rate(run: Runner, kind: str, budget: int) -> float:
    metrics = RequestMetrics()
    run.llm.change(mode="ssd", lookahead=LOOKAHEAD, budget=budget, fan_out=kind, tree_nodes=0, fallback="draft")
    for prompt, params in zip(run.prompts, run.params, strict=True):
        metrics.add(run.llm.generate([prompt], params, mode="ssd")[0].metrics)
    return metrics.hit_rate
