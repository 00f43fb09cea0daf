"""Which mode and fallback is fastest at which batch size, and how near `fallback: auto` comes to it.

    saguaro build configs/demo.yaml -o engines/demo-batches --max-batch-size 8
    python benchmarks/batches.py engines/demo-batches [--repeat N] [--output FILE.json]

The variants take turns at every group of prompts, in one process. A group has more prompts than the batch has room for:
when a sequence ends, the next takes its place. Speeds are tokens per second, from the median of each group's repeats,
prompts and the emptying of the batch at the end included; they are given as ratios to AR at the same batch size.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch

from saguaro import LLM, SamplingParams
from saguaro.cli.prompt_input import read_prompts
from saguaro.engine.directory import open_engine_directory
from saguaro.runtime.metrics import RequestMetrics

PROMPTS = Path(__file__).parent.parent / "examples/demo/prompts.jsonl"
VARIANTS = {
    "ar": ("ar", "draft"),
    "sd draft": ("sd", "draft"),
    "sd ngram": ("sd", "ngram"),
    "ssd draft": ("ssd", "draft"),
    "ssd ngram": ("ssd", "ngram"),
    "ssd auto": ("ssd", "auto"),
}
GROUPS, PROMPTS_OF_A_GROUP = 2, {1: 6, 2: 8, 4: 14, 8: 20}  # by batch size


@dataclass
class Measured:
    """One variant at one batch size."""

    seconds: dict[int, list[float]] = field(default_factory=dict)  # group -> of each repeat
    tokens: dict[int, list[list[int]]] = field(default_factory=dict)  # group -> completions
    metrics: RequestMetrics = field(default_factory=RequestMetrics)

    @property
    def speed(self) -> float:
        """Tokens per second."""
        count = sum(len(ids) for group in self.tokens.values() for ids in group)
        return count / sum(map(median, self.seconds.values()))


def turns(groups: int, repeat: int) -> Iterator[tuple[int, str]]:
    """Who goes first moves on from group to group."""
    names = list(VARIANTS)
    for again in range(repeat):
        for group in range(groups):
            first = (group + again) % len(names)
            for name in [*names[first:], *names[:first]]:
                yield group, name


def measure(llm: LLM, size: int, repeat: int, params: SamplingParams) -> dict[str, Measured]:
    prompts, count = [line.prompt for line in read_prompts(PROMPTS)], PROMPTS_OF_A_GROUP[size]
    groups = [prompts[group * count : (group + 1) * count] for group in range(GROUPS)]
    results = {name: Measured() for name in VARIANTS}
    llm.pair.verifier.session.max_batch_size = size  # the round loop lets no more in

    def run(group: int, name: str) -> None:
        mode, llm.speculation["fallback"] = VARIANTS[name]  # the runtime reads it at every call
        outputs = llm.generate(groups[group], params, mode)
        result = results[name]
        result.seconds.setdefault(group, []).append(llm.last_run.seconds)
        result.tokens[group] = [output.outputs[0].token_ids for output in outputs]
        for output in outputs:
            result.metrics.add(output.metrics)

    for group, name in turns(GROUPS, 1):  # a warm-up, in which auto learns too
        run(group, name)
    for result in results.values():
        result.__init__()  # type: ignore[misc]
    for group, name in turns(GROUPS, repeat):
        run(group, name)
    return results


def report(results: dict[str, Measured]) -> dict[str, object]:
    ar = results["ar"]
    speeds = {name: result.speed / ar.speed for name, result in results.items()}
    best = max((name for name in speeds if name != "ssd auto"), key=speeds.__getitem__)
    auto = results["ssd auto"].metrics
    return {
        "ar_tokens_per_second": ar.speed,
        "speed_over_ar": speeds,
        "best": best,
        "auto_over_best": speeds["ssd auto"] / speeds[best],
        "identical": all(result.tokens == ar.tokens for result in results.values()),
        "tokens_per_round": {name: result.metrics.tokens_per_round for name, result in results.items()},
        "hit_rate": {name: result.metrics.hit_rate for name, result in results.items() if name.startswith("ssd")},
        "auto": auto.to_dict()["speculative_decoding"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--temperature", type=float, default=0.0)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(PROMPTS_OF_A_GROUP))
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results/batches.json")
    options = parser.parse_args()
    params = SamplingParams(
        max_tokens=options.max_tokens, temperature=options.temperature, seed=0, ignore_eos=True
    )
    sizes: dict[int, dict[str, object]] = {}
    result = {
        "machine": {"processor": platform.machine(), "cpu": torch.backends.cpu.get_cpu_capability()},
        "torch": torch.__version__,
        "speculation": open_engine_directory(options.engine).speculation,
        "temperature": options.temperature,
        "batch_sizes": sizes,
    }
    with LLM(options.engine) as llm:
        for size in options.sizes:
            sizes[size] = report(measure(llm, size, options.repeat, params))
            options.output.write_text(json.dumps(result, indent=1) + "\n")  # so that a run may be cut short
    print(json.dumps(result, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
