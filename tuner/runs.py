"""Real runs of settings on the loaded engine, and how fast their rounds were."""

from __future__ import annotations

from typing import Any

from saguaro.llm import LLM
from saguaro.outputs import RequestOutput
from saguaro.runtime.metrics import RequestMetrics, RunMetrics
from saguaro.runtime.sampling_params import SamplingParams
from saguaro.runtime.trace import Round, Trace
from saguaro.tuner.settings import Settings


class Runner:
    """`prompts` (token ids) with a seed each, at one temperature."""

    def __init__(self, llm: LLM, prompts: list[list[int]], *, max_tokens: int, temperature: float):
        self.llm, self.prompts, self.temperature = llm, prompts, temperature
        self.params = [
            SamplingParams(max_tokens=max_tokens, temperature=temperature, seed=seed, ignore_eos=True)
            for seed in range(len(prompts))
        ]
        self.statistics: dict[str, Any] = {}  # what the outcome policy knows when a run begins

    def groups(self, batch: int) -> list[slice]:
        """Of so many prompts each, of which the last may have fewer."""
        return [slice(first, first + batch) for first in range(0, len(self.prompts), batch)]

    def run(self, settings: Settings, batch: int) -> Run:
        """All prompts, `batch` at a time."""
        run = Run(self, settings)
        for group in self.groups(batch):
            run.go(group)
        return run


class Run:
    """With some settings, a group of prompts at a time. What it learns is its own, whatever else runs between."""

    def __init__(self, runner: Runner, settings: Settings):
        self.settings, self._runner = settings, runner
        runner.llm.change(**settings.changes())
        self._configuration = runner.llm.pair.configuration
        if runner.statistics:
            self._configuration.policies.restore(runner.statistics)
        self.outputs: list[RequestOutput] = []
        self.metrics, self.total = RequestMetrics(), RunMetrics()
        self.rounds: list[Round] = []

    def go(self, group: slice) -> None:
        runner, llm, trace = self._runner, self._runner.llm, Trace()
        llm.pair.configuration, llm.trace = self._configuration, trace
        try:
            outputs = llm.generate(list(runner.prompts[group]), runner.params[group], mode=self.settings.mode)
        finally:
            llm.trace = None
        self.outputs += outputs
        self.rounds += trace.rounds
        self.total.add(llm.last_run)
        for output in outputs:
            self.metrics.add(output.metrics)

    @property
    def tokens_per_second(self) -> float:
        """Of the rounds alone, without the prompts."""
        return sum(len(output.outputs[0].token_ids) for output in self.outputs) / self.total.in_rounds
