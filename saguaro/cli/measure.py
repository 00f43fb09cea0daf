"""The modes side by side on the same prompts: what `bench` and `demo` measure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING, Any

from saguaro.cli.prompt_input import PromptLine
from saguaro.errors import RequestError
from saguaro.runtime.metrics import RequestMetrics, RunMetrics

if TYPE_CHECKING:
    from saguaro import LLM, SamplingParams
    from saguaro.runtime.trace import Trace

WARM_UP_TOKENS = 16


@dataclass
class ModeResult:
    """One mode, over all prompts. Times are medians over the repeats, rates are over everything that ran."""

    repeat: int
    request: RequestMetrics = field(default_factory=RequestMetrics)
    run: RunMetrics = field(default_factory=RunMetrics)
    passes: list[RunMetrics] = field(default_factory=list)  # of each repeat
    seconds_of: dict[int, list[float]] = field(default_factory=dict)  # prompt -> of each repeat
    first_token: list[float] = field(default_factory=list)
    token_ids: dict[int, list[int]] = field(default_factory=dict)  # prompt -> completion

    def add(self, prompt: int, token_ids: list[int], request: RequestMetrics, run: RunMetrics) -> None:
        self.request.add(request)
        self.run.add(run)
        times = self.seconds_of.setdefault(prompt, [])
        times.append(request.seconds)
        if len(times) > len(self.passes):
            self.passes.append(RunMetrics())
        self.passes[len(times) - 1].add(run)
        self.first_token.append(request.time_to_first_token)
        self.token_ids[prompt] = token_ids

    @property
    def tokens(self) -> int:
        """Of one pass over the prompts, as `seconds`."""
        return self.request.output_tokens // self.repeat

    @property
    def seconds(self) -> float:
        return sum(median(times) for times in self.seconds_of.values())

    @property
    def tokens_per_second(self) -> float:
        return self.tokens / self.seconds

    @property
    def outside_forwards(self) -> float:
        """Share of the rounds' time during which no model forward ran."""
        return median(run.outside_forwards for run in self.passes)

    @property
    def seconds_per_token(self) -> float:
        """Of the rounds alone, without the prompts: what the speed model speaks of."""
        return self.run.in_rounds / self.request.output_tokens


@dataclass
class Comparison:
    modes: dict[str, ModeResult]
    prompts: int

    @property
    def identical(self) -> int:
        """How many prompts got the same tokens in every mode."""
        results = list(self.modes.values())
        return sum(
            all(r.token_ids[i] == results[0].token_ids[i] for r in results) for i in range(self.prompts)
        )

    def speedup(self, mode: str, over: str) -> float | None:
        """Of whole requests; None where `over` was not measured."""
        if mode not in self.modes or over not in self.modes:
            return None
        return self.modes[mode].tokens_per_second / self.modes[over].tokens_per_second

    @property
    def predicted(self) -> float | None:
        """The speed model's speed-up of SSD over AR (design 3.7), from this run's own terms."""
        ssd, ar = self.modes.get("ssd"), self.modes.get("ar")
        step = ar.run.in_rounds / ar.run.rounds if ar else None
        return ssd.request.predicted_speedup(step) if ssd else None

    @property
    def measured(self) -> float | None:
        """The same of the rounds as measured."""
        if "ssd" not in self.modes or "ar" not in self.modes:
            return None
        return self.modes["ar"].seconds_per_token / self.modes["ssd"].seconds_per_token

    def to_dict(self) -> dict[str, Any]:
        return {
            "modes": {name: self._mode(name) for name in self.modes},
            "prompts": self.prompts,
            "identical": self.identical == self.prompts,
            "identical_prompts": self.identical,
        }

    def _mode(self, name: str) -> dict[str, Any]:
        result = self.modes[name]
        request, run = result.request, result.run
        values: dict[str, Any] = {
            "tokens_per_second": result.tokens_per_second,
            "tokens": result.tokens,
            "rounds": request.rounds / result.repeat,
            "seconds": result.seconds,
            "time_to_first_token": median(result.first_token),
            "speedup": self.speedup(name, "ar"),
            "verification_share": share(run.times.verification, run),
            "outside_forwards": result.outside_forwards,
        }
        if name != "ar":
            values["acceptance_rate"] = request.acceptance_rate
            values["tokens_per_round"] = request.tokens_per_round
            values["fallback_share"] = share(run.times.fallback, run)
            values["auto_off"] = run.auto_off / run.rounds if run.rounds else 0.0
        if name == "ssd":
            values["speedup_over_sd"] = self.speedup("ssd", "sd")
            values["hit_rate"] = request.hit_rate
            values["overlap"] = run.overlap
            values["auto_sequential"] = run.auto_sequential / run.rounds if run.rounds else 0.0
            values["predicted_speedup"] = self.predicted
            values["measured_speedup"] = self.measured
        return values


def share(seconds: float, run: RunMetrics) -> float:
    """Of the time in rounds."""
    return seconds / run.in_rounds if run.in_rounds else 0.0


def compare(
    llm: LLM,
    prompts: Sequence[PromptLine],
    modes: Sequence[str],
    params: SamplingParams,
    repeat: int,
    progress: Callable[[int, int], None] = lambda done, total: None,
    trace: Trace | None = None,
) -> Comparison:
    """Every mode on every prompt `repeat` times, one prompt after another, the modes taking turns at each.

    A machine's other work, its clock and its temperature then weigh on all modes alike. A `trace` takes in the first
    of the repeats alone: what it costs then stays out of the median.
    """
    from dataclasses import replace

    for mode in modes:
        _one(llm, prompts[0], replace(params, max_tokens=min(WARM_UP_TOKENS, params.max_tokens)), mode)
    results = {mode: ModeResult(repeat) for mode in modes}
    turns = list(_turns(len(prompts), modes, repeat))
    for done, (index, mode) in enumerate(turns):
        progress(done, len(turns))
        llm.trace = trace if done < len(turns) // repeat else None
        results[mode].add(index, *_one(llm, prompts[index], params, mode))
    llm.trace = None
    progress(len(turns), len(turns))
    return Comparison(results, len(prompts))


def _turns(prompts: int, modes: Sequence[str], repeat: int) -> Iterator[tuple[int, str]]:
    """Who goes first moves on from prompt to prompt."""
    for again in range(repeat):
        for index in range(prompts):
            first = (index + again) % len(modes)
            for mode in [*modes[first:], *modes[:first]]:
                yield index, mode


def _one(
    llm: LLM, line: PromptLine, params: SamplingParams, mode: str
) -> tuple[list[int], RequestMetrics, RunMetrics]:
    try:
        (output,) = llm.generate([line.prompt], params, mode)
    except RequestError as error:
        raise RequestError(f"{line.place}: {error}") from error
    return output.outputs[0].token_ids, output.metrics, llm.last_run
