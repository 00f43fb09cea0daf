"""What a request may ask for: the names, defaults and ranges of vLLM's `SamplingParams`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from saguaro.errors import RequestError

SEED_LIMIT = 2**64


@dataclass(frozen=True)
class SamplingParams:
    """How to sample one request. A value out of range raises `RequestError` that names it.

    Attributes:
        max_tokens: most tokens to generate, at least 1.
        temperature: T >= 0; 0 is greedy, and so is anything below 1e-5, as in vLLM.
        top_p: keep the smallest set of tokens whose probability reaches this, in (0, 1]; 1 keeps all.
        top_k: keep this many of the likeliest tokens; 0 or -1 keeps all.
        min_p: drop tokens less likely than this times the likeliest, in [0, 1].
        seed: 64-bit seed of the noise; the same seed gives the same tokens, under coupled verification in every mode.
            None: a fresh one for each request, told in the output's metrics.
        stop: strings at which to stop; they are not part of the text.
        stop_token_ids: token ids at which to stop, beside the model's own end tokens.
        ignore_eos: go on after the model's own end tokens.
        n: completions for each prompt; completion i samples with seed + i.
        logprobs: how many of the likeliest tokens' log-probabilities to give at each position, beside the
            sampled token's own (of the model's distribution at temperature 1, before filters); None: none.
    """

    max_tokens: int = 16
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    min_p: float = 0.0
    seed: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] = field(default_factory=list)
    ignore_eos: bool = False
    n: int = 1
    logprobs: int | None = None

    def __post_init__(self) -> None:
        self._integer("max_tokens", self.max_tokens, 1)
        self._integer("n", self.n, 1)
        self._integer("top_k", self.top_k, -1)
        if self.logprobs is not None:
            self._integer("logprobs", self.logprobs, 0)
        if self.seed is not None:
            self._integer("seed", self.seed, 0)
            if self.seed >= SEED_LIMIT:
                raise RequestError(f"seed is {self.seed}; expected at most {SEED_LIMIT - 1}")
        self._number("temperature", self.temperature, 0.0, math.inf)
        if self.temperature < 1e-5:
            object.__setattr__(self, "temperature", 0.0)
        self._number("min_p", self.min_p, 0.0, 1.0)
        self._number("top_p", self.top_p, 0.0, 1.0)
        if self.top_p == 0:
            raise RequestError("top_p is 0; expected a number above 0 and at most 1 (for greedy use temperature=0)")
        if not isinstance(self.ignore_eos, bool):
            raise RequestError(f"ignore_eos is {self.ignore_eos!r}; expected True or False")
        if not isinstance(self.stop, (str, list, tuple, type(None))) or any(
            not isinstance(text, str) or not text for text in self.stop_strings
        ):
            raise RequestError(f"stop is {self.stop!r}; expected a string or a list of strings, none of them empty")
        if not isinstance(self.stop_token_ids, (list, tuple)) or any(
            not isinstance(token, int) or isinstance(token, bool) for token in self.stop_token_ids
        ):
            raise RequestError(f"stop_token_ids is {self.stop_token_ids!r}; expected a list of token ids")

    @property
    def stop_strings(self) -> list[str]:
        if self.stop is None:
            return []
        return [self.stop] if isinstance(self.stop, str) else list(self.stop)

    @staticmethod
    def _integer(name: str, value: object, least: int) -> None:
        if not isinstance(value, int) or isinstance(value, bool) or value < least:
            raise RequestError(f"{name} is {value!r}; expected an integer of at least {least}")

    @staticmethod
    def _number(name: str, value: object, least: float, most: float) -> None:
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not good or not least <= value <= most:  # type: ignore[operator]
            limit = f"at least {least:g}" if most == math.inf else f"from {least:g} to {most:g}"
            raise RequestError(f"{name} is {value!r}; expected a number {limit}")
