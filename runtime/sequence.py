"""One completion that is being generated: its tokens so far, its slot, its seed and when it is finished."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch

from saguaro.runtime.metrics import RequestMetrics
from saguaro.runtime.noise import RequestNoise
from saguaro.runtime.sampling_params import SamplingParams
from saguaro.runtime.speculation.ngram import NgramIndex
from saguaro.runtime.speculation.tree import EMPTY, Outcome, Speculation


@dataclass(eq=False)
class Sequence:
    """`tokens` are the prompt and what was generated; the last of them is the bonus token of the next round."""

    tokens: list[int]
    params: SamplingParams
    seed: int
    stop_tokens: frozenset[int]
    index: int = 0  # of the completion within its call
    slot: int = -1
    prompt_length: int = field(init=False)
    metrics: RequestMetrics = field(default_factory=RequestMetrics)
    speculation: Speculation = EMPTY  # what the target verifies next
    ngrams: NgramIndex | None = None  # of `tokens`, where the fallback looks continuations up
    from_cache: bool = False  # whether the speculation was prepared
    finish_reason: str | None = None
    logprobs: list[dict[int, float]] | None = None
    _end: int | None = None
    _noise: dict[torch.device, RequestNoise] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.prompt_length = len(self.tokens)
        self.metrics.seed = self.seed
        self.metrics.prompt_tokens = self.prompt_length
        if self.params.logprobs is not None:
            self.logprobs = []

    @property
    def prefix(self) -> int:
        """KV rows that are verified: all tokens but the bonus token, which the next round computes."""
        return len(self.tokens) - 1

    def noise(self, vocab_size: int, device: torch.device) -> RequestNoise | None:
        """The request's noise over the target's vocabulary, on a device; None at temperature 0."""
        if self.params.temperature == 0:
            return None
        if device not in self._noise:
            self._noise.setdefault(device, RequestNoise(self.seed, self.params.temperature, vocab_size, device))
        return self._noise[device]

    @property
    def generated(self) -> list[int]:
        return self.tokens[self.prompt_length : self._end]

    def stop_at(self, end: int) -> None:
        """A stop string is complete: the completion has the first `end` tokens, prompt included."""
        self.metrics.output_tokens -= len(self.tokens) - end
        self._end, self.finish_reason = end, "stop"

    def accept(self, outcome: Outcome) -> list[int]:
        """Append the accepted path and the bonus token, up to the end if it lies among them. Gives what is new."""
        path = self.speculation.path(outcome.node)
        tokens = [self.speculation.tokens[node - 1] for node in path] + [outcome.bonus]
        room = self.prompt_length + self.params.max_tokens - len(self.tokens)
        new = []
        for token in tokens[:room]:
            new.append(token)
            if token in self.stop_tokens:
                self.finish_reason = "stop"
                break
        if self.finish_reason is None and len(new) == room:
            self.finish_reason = "length"
        self.tokens += new
        if self.ngrams is not None:
            self.ngrams.extend(new)
        drafted, depth = len(self.speculation), self.speculation.depth
        self.metrics.count_round(drafted, depth, min(len(path), len(new)), len(new), self.from_cache)
        return new
