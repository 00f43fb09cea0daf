"""Real runs of settings on the loaded engine, and how fast their rounds were."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from saguaro.llm import LLM
from saguaro.outputs import RequestOutput
from saguaro.runtime.metrics import RequestMetrics
from saguaro.runtime.sampling_params import SamplingParams
from saguaro.tuner.settings import Settings


@dataclass
class Measured:
    """Several passes over the prompts with the same settings."""

    rates: list[float] = field(default_factory=list)  # tokens per second of the rounds, of each pass
    round_seconds: list[float] = field(default_factory=list)
    metrics: RequestMetrics = field(default_factory=RequestMetrics)


class Runner:
    """`prompts` (token ids) with a seed each, at one temperature."""

    def __init__(self, llm: LLM, prompts: list[list[int]], *, max_tokens: int, temperature: float):
        self.llm, self.prompts, self.temperature = llm, prompts, temperature
        self.params = [
            SamplingParams(max_tokens=max_tokens, temperature=temperature, seed=seed, ignore_eos=True)
            for seed in range(len(prompts))
        ]
        self.statistics: dict[str, Any] = {}  # what the outcome policy knows when a run begins

    def run(
        self, settings: Settings, batch: int, into: Measured, prompts: int | None = None
    ) -> list[RequestOutput]:
        """One pass over all prompts, or so many, `batch` at a time."""
        self.llm.change(**settings.changes())
        if self.statistics:
            self.llm.pair.policies.restore(self.statistics)
        outputs, seconds, rounds = [], 0.0, 0
        count = len(self.prompts[:prompts])
        for first in range(0, count, batch):
            some = slice(first, min(first + batch, count))
            outputs += self.llm.generate(list(self.prompts[some]), self.params[some], mode=settings.mode)
            seconds += self.llm.last_run.in_rounds
            rounds += self.llm.last_run.rounds
        tokens = sum(len(output.outputs[0].token_ids) for output in outputs)
        into.rates.append(tokens / seconds)
        into.round_seconds.append(seconds / rounds)
        for output in outputs:
            into.metrics.add(output.metrics)
        return outputs
