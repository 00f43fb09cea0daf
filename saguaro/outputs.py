"""What generating gives back: the shapes of vLLM's `RequestOutput` and `CompletionOutput`."""

from __future__ import annotations

from dataclasses import dataclass, field

from saguaro.runtime.metrics import RequestMetrics


@dataclass
class CompletionOutput:
    """One completion. `finish_reason`: "stop" at an end token or stop string, "length" at `max_tokens`."""

    index: int
    text: str
    token_ids: list[int]
    finish_reason: str | None
    logprobs: list[dict[int, float]] | None  # for each token: token id -> log-probability
    metrics: RequestMetrics


@dataclass
class RequestOutput:
    """One prompt with its completions, `SamplingParams.n` of them."""

    prompt: str | None
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput] = field(default_factory=list)

    @property
    def metrics(self) -> RequestMetrics:
        """Of all completions together; of the only one, where there is one."""
        if len(self.outputs) == 1:
            return self.outputs[0].metrics
        total = RequestMetrics()
        for output in self.outputs:
            total.add(output.metrics)
        return total


@dataclass
class Chunk:
    """A piece of a stream: the text that is new, and with the last piece the whole output."""

    text: str
    token_ids: list[int]
    output: RequestOutput | None = None
