"""Coupled against rejection verification: acceptance, tokens per round, and what public coins bring to the hit rate.

    python benchmarks/rejection.py ENGINE [--prompts N] [--max-tokens N] [--output FILE.json]

Counts only: both rules run the same models over the same prompts and seeds, and no drafting is cut short by the clock.
The coupled draft still gives unlikely outcomes shorter chains, so fewer of its tokens are there to be rejected.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from saguaro import LLM, SamplingParams
from saguaro.cli.prompt_input import read_prompts
from saguaro.runtime.metrics import RequestMetrics
from saguaro.runtime.rejection_drafter import RejectionDrafter
from saguaro.runtime.speculative_rounds import ConcurrentLoop

PROMPTS = Path(__file__).parent.parent / "examples/demo/prompts.jsonl"
TEMPERATURES = (0.0, 0.7, 1.0)
RULES = {  # verification, and whether the draft looks at the round's coins
    "coupled": ("coupled", True),
    "rejection, private coins": ("rejection", False),
    "rejection": ("rejection", True),
}


def measure(engine: Path, rule: str, temperature: float, prompts: int, max_tokens: int) -> dict[str, float]:
    """On a freshly loaded pair, so that nothing was learned before."""
    verification, RejectionDrafter.public_coins = RULES[rule]
    ConcurrentLoop.anytime = False
    asked = [
        SamplingParams(max_tokens=max_tokens, temperature=temperature, seed=seed, ignore_eos=True)
        for seed in range(prompts)
    ]
    total = RequestMetrics()
    with LLM(engine, mode="ssd", speculation={"verification": verification, "fallback": "draft"}) as llm:
        for output in llm.generate([line.prompt for line in read_prompts(PROMPTS)[:prompts]], asked):
            total.add(output.metrics)
    return {
        "acceptance_rate": round(total.acceptance_rate, 4),
        "tokens_per_round": round(total.tokens_per_round, 3),
        "hit_rate": round(total.hit_rate, 4),
        "rounds": total.rounds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("engine", type=Path)
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--max-tokens", type=int, default=64)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results/rejection.json")
    chosen = parser.parse_args()
    with LLM(chosen.engine) as llm:
        speculation = llm.manifest.speculation
    result = {
        "prompts": chosen.prompts,
        "max_tokens": chosen.max_tokens,
        "speculation": {name: speculation[name] for name in ("lookahead", "budget", "fan_out")},
        "temperatures": {
            str(t): {rule: measure(chosen.engine, rule, t, chosen.prompts, chosen.max_tokens) for rule in RULES}
            for t in TEMPERATURES
        },
    }
    chosen.output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))  # noqa: T201


if __name__ == "__main__":
    main()
