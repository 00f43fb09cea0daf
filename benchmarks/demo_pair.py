"""The demo pair on this CPU: what verifying costs, and AR, SD and SSD side by side.

    python benchmarks/demo_pair.py ENGINE [--output FILE.json]

Everything is a ratio of things run in turn in this process, from medians; see docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
from pathlib import Path
from time import perf_counter

import torch

from saguaro import LLM, SamplingParams
from saguaro.cli.measure import compare
from saguaro.cli.prompt_input import read_prompts
from saguaro.engine.directory import open_engine_directory
from saguaro.runtime.load import load_session
from saguaro.runtime.sessions.session import Session, Step

PROMPTS = Path(__file__).parent.parent / "examples/demo/prompts.jsonl"
PREFIX = 64  # cache rows before the tokens of a step


def causal_step(tokens: int) -> Step:
    visible = torch.ones(tokens, tokens, dtype=torch.bool).tril().unsqueeze(0)
    ids = torch.arange(tokens).unsqueeze(0)
    return Step(ids, ids + PREFIX, [PREFIX], visible, [PREFIX])


def step_costs(session: Session, sizes: list[int], repeat: int = 60) -> dict[int, float]:
    """Median seconds of a forward pass by its number of tokens, the sizes taking turns."""
    steps = {size: causal_step(size) for size in sizes}
    times: dict[int, list[float]] = {size: [] for size in sizes}
    for turn in range(repeat + 5):
        for size, step in steps.items():
            start = perf_counter()
            session.forward(step)
            if turn >= 5:
                times[size].append(perf_counter() - start)
    return {size: statistics.median(seconds) for size, seconds in times.items()}


def verification_cost(engine: Path) -> dict[str, object]:
    """Each model's cost of a step by its tokens, in units of the target's single-token step."""
    manifest = open_engine_directory(engine)
    torch.set_num_threads(manifest.target.threads)
    with torch.inference_mode():
        target = step_costs(load_session(engine, "target", manifest, None), [1, 2, 4, 6, 8, 16])
        draft = step_costs(load_session(engine, "draft", manifest, None), [1, 6, 12, 24])
    unit = target[1]
    return {
        "target_step_ms": unit * 1e3,
        "target": {size: seconds / unit for size, seconds in target.items()},
        "draft": {size: seconds / unit for size, seconds in draft.items()},
    }


def modes(engine: Path, temperature: float, options: argparse.Namespace) -> dict[str, object]:
    params, repeat = SamplingParams(max_tokens=options.max_tokens, temperature=temperature, seed=0), options.repeat
    with LLM(engine, speculation={"fallback": options.fallback}) as llm:
        return compare(llm, read_prompts(PROMPTS), ["ar", "sd", "ssd"], params, repeat).to_dict()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("engine", type=Path)
    parser.add_argument("--fallback", default="draft", help="in place of the engine's; the paper's SD and SSD draft")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results/demo_pair.json")
    options = parser.parse_args()
    result = {
        "machine": {"processor": platform.machine(), "cpu": torch.backends.cpu.get_cpu_capability()},
        "torch": torch.__version__,
        "speculation": {**open_engine_directory(options.engine).speculation, "fallback": options.fallback},
        "cost": verification_cost(options.engine),
        "greedy": modes(options.engine, 0.0, options),
        "temperature_0.8": modes(options.engine, 0.8, options),
    }
    options.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
