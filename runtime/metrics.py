"""What was measured while generating. Names follow vLLM where it has one; times are seconds."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from saguaro.runtime.speculation.speed_model import predicted_speedup
from saguaro.runtime.timing import Span, covered, named, overlap


@dataclass
class Times:
    """Where the rounds' time went, in seconds."""

    verification: float = 0.0  # the target, verifying
    preparation: float = 0.0  # the draft, preparing outcomes
    fallback: float = 0.0  # the target waiting for the draft to speculate
    overlapped: float = 0.0  # the draft's busy time during which the target was verifying

    def add(self, other: Times) -> None:
        self.verification += other.verification
        self.preparation += other.preparation
        self.fallback += other.fallback
        self.overlapped += other.overlapped

    @property
    def overlap(self) -> float:
        """Share of the draft's busy time during which the target was verifying."""
        busy = self.preparation + self.fallback
        return self.overlapped / busy if busy else 0.0


@dataclass
class RequestMetrics:
    """Counts and times of one request, or the sum over several (`add`)."""

    seed: int | None = None
    prompt_tokens: int = 0
    output_tokens: int = 0
    seconds: float = 0.0
    time_to_first_token: float = 0.0
    rounds: int = 0
    drafted: int = 0
    accepted: int = 0
    hits: int = 0
    misses: int = 0
    hits_used: int = 0  # rounds that verified a speculation from the cache
    fallbacks: int = 0
    auto_off: int = 0  # rounds that the fallback auto ran as plain decoding, with nothing drafted
    auto_sequential: int = 0  # ssd's rounds during which it prepared nothing
    hit_tokens: int = 0  # tokens of the rounds whose speculation came from the cache
    miss_tokens: int = 0  # tokens of the rounds whose speculation came from the fallback
    times: Times = field(default_factory=Times)  # of its rounds; sequences of one batch share them
    drafted_at: list[int] = field(default_factory=list)  # [i]: rounds that speculated an (i+1)-th token
    accepted_at: list[int] = field(default_factory=list)  # [i]: rounds that accepted it
    histogram: list[int] = field(default_factory=list)  # [k]: rounds that accepted k tokens

    def count_round(self, drafted: int, depth: int, accepted: int, tokens: int, from_cache: bool) -> None:
        """Take in a round: tokens speculated, on paths of up to `depth`, of these accepted, and in all given out, the
        bonus token with them."""
        self.rounds += 1
        self.output_tokens += tokens
        self.drafted += drafted
        self.accepted += accepted
        _count(self.histogram, accepted, accepted + 1)
        _count(self.drafted_at, 0, depth)
        _count(self.accepted_at, 0, accepted)
        if from_cache:
            self.hits_used += 1
            self.hit_tokens += tokens
        else:
            self.miss_tokens += tokens

    def add(self, other: RequestMetrics) -> None:
        self.times.add(other.times)
        first = [time for time in (self.time_to_first_token, other.time_to_first_token) if time]
        self.time_to_first_token = min(first, default=0.0)
        for name in _SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for name in ("drafted_at", "accepted_at", "histogram"):
            mine, theirs = getattr(self, name), getattr(other, name)
            mine += [0] * (len(theirs) - len(mine))
            for i, count in enumerate(theirs):
                mine[i] += count

    @property
    def acceptance_rate(self) -> float:
        return self.accepted / self.drafted if self.drafted else 0.0

    @property
    def hit_rate(self) -> float:
        return self.hits / (self.hits + self.misses) if self.hits + self.misses else 0.0

    @property
    def tokens_per_round(self) -> float:
        return self.output_tokens / self.rounds if self.rounds else 0.0

    def predicted_speedup(self, ar_step: float | None = None) -> float | None:
        """Section 3.7's speed-up over AR from the measured terms; None before there is anything to go by.

        `ar_step` is the time of one AR step where it was measured; else one verification stands for it.
        """
        if not self.rounds or not self.times.verification:
            return None
        step = self.times.verification / self.rounds
        from_fallback = self.rounds - self.hits_used
        speedup = predicted_speedup(
            self.hit_tokens / self.hits_used if self.hits_used else 0.0,
            self.miss_tokens / from_fallback if from_fallback else 0.0,
            self.hits_used / self.rounds,
            self.times.preparation / self.rounds / step,
            self.times.fallback / self.fallbacks / step if self.fallbacks else 0.0,
        )
        return speedup if ar_step is None else speedup * ar_step / step

    def to_dict(self) -> dict[str, Any]:
        accepted_at = self.accepted_at + [0] * (len(self.drafted_at) - len(self.accepted_at))
        by_position = [a / d for a, d in zip(accepted_at, self.drafted_at, strict=True)]
        result: dict[str, Any] = {
            "prompt_tokens": self.prompt_tokens,
            "output_tokens": self.output_tokens,
            "seconds": self.seconds,
            "time_to_first_token": self.time_to_first_token,
            "rounds": self.rounds,
            "tokens_per_round": self.tokens_per_round,
            "verification_seconds": self.times.verification,
            "preparation_seconds": self.times.preparation,
            "fallback_seconds": self.times.fallback,
            "speculative_decoding": {
                "mean_acceptance_length": self.tokens_per_round,
                "draft_acceptance_rate": self.acceptance_rate,
                "acceptance_rate_by_position": by_position,
                "acceptance_histogram": self.histogram,
                "num_spec_steps": self.rounds,
                "num_draft_tokens": self.drafted,
                "num_accepted_draft_tokens": self.accepted,
                "cache_hits": self.hits,
                "cache_misses": self.misses,
                "fallbacks": self.fallbacks,
                "auto_off": self.auto_off,
                "auto_sequential": self.auto_sequential,
                "overlap": self.times.overlap,
                "predicted_speedup": self.predicted_speedup(),
            },
        }
        if self.seed is not None:
            result["seed"] = self.seed
        return result


_SUMS = (
    "prompt_tokens", "output_tokens", "seconds", "rounds", "drafted", "accepted", "hits", "misses",
    "hits_used", "fallbacks", "auto_off", "auto_sequential", "hit_tokens", "miss_tokens",
)  # fmt: skip


def _count(counts: list[int], start: int, stop: int) -> None:
    """Add one to `counts[start:stop]`; the list grows on demand."""
    counts += [0] * (stop - len(counts))
    for i in range(start, stop):
        counts[i] += 1


@dataclass
class RunMetrics:
    """Times of one run of the round loop, over all its sequences."""

    rounds: int = 0
    auto_off: int = 0  # as of a request
    auto_sequential: int = 0
    seconds: float = 0.0
    in_rounds: float = 0.0
    forward: float = 0.0  # time during which a model forward ran
    times: Times = field(default_factory=Times)
    _before: list[Span] = field(default_factory=list, repr=False, compare=False)  # the latest round's verifications

    def add_round(self, start: float, end: float, target: list[Span], draft: list[Span]) -> Times:
        """Take in what the models did in the round; gives its times. A preparation is noted when it ends, which may be
        a moment after the verification that it accompanied, in the next round."""
        verifications, fallbacks = named(target, "verification"), named(draft, "fallback")
        preparations = named(draft, "preparation")
        times = Times(
            sum(span.seconds for span in verifications),
            sum(span.seconds for span in preparations),
            sum(span.seconds for span in fallbacks),
            overlap(preparations + fallbacks, self._before + verifications),
        )
        self._before = verifications
        forwards = [span for span in named(target + draft, "forward") if span.start >= start]
        self.rounds += 1
        self.in_rounds += end - start
        self.forward += covered(forwards)
        self.times.add(times)
        return times

    def add(self, other: RunMetrics) -> None:
        self.rounds += other.rounds
        self.auto_off += other.auto_off
        self.auto_sequential += other.auto_sequential
        self.seconds += other.seconds
        self.in_rounds += other.in_rounds
        self.forward += other.forward
        self.times.add(other.times)

    @property
    def overlap(self) -> float:
        return self.times.overlap

    @property
    def outside_forwards(self) -> float:
        """Share of the rounds' time during which no model forward ran."""
        return 1 - self.forward / self.in_rounds if self.in_rounds else 0.0

    def to_dict(self) -> dict[str, float | int]:
        return {
            "rounds": self.rounds,
            "auto_off": self.auto_off,
            "auto_sequential": self.auto_sequential,
            "seconds": self.seconds,
            "verification_seconds": self.times.verification,
            "preparation_seconds": self.times.preparation,
            "fallback_seconds": self.times.fallback,
            "overlap": self.overlap,
            "outside_forwards": self.outside_forwards,
        }
