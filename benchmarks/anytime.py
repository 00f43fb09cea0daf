"""Anytime drafting with a slow draft: `python benchmarks/anytime.py ENGINE [--prompts N] [--output FILE.json]`.

Each draft step is stretched (by sleeping, so that it takes nothing from the target) until preparing takes T_p = 1 and
T_p = 2 verifications. Under anytime drafting a hit's round loses at most one draft step to that, and SSD keeps its lead
over SD with the same draft. Modes take turns prompt by prompt; times are medians.
"""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any

import click
import torch

from saguaro import LLM, SamplingParams
from saguaro.cli.prompt_input import read_prompts
from saguaro.runtime.sessions.session import Session, Step
from saguaro.runtime.trace import Trace

PROMPTS = Path(__file__).parent.parent / "examples/demo/prompts.jsonl"


class Slowed:
    """A draft session whose every forward takes at least `seconds`. It runs rollouts step by step."""

    def __init__(self, session: Session):
        self._session, self.seconds = session, 0.0
        self.device, self.vocab_size = session.device, session.vocab_size
        self.max_batch_size, self.rows = session.max_batch_size, session.rows
        self.move_rows, self.move_slot, self.close = session.move_rows, session.move_slot, session.close

    def forward(self, step: Step) -> torch.Tensor:
        end = perf_counter() + self.seconds
        logits = self._session.forward(step)
        sleep(max(0.0, end - perf_counter()))
        return logits


def rounds_of(llm: LLM, prompt: Any, params: SamplingParams, mode: str) -> tuple[Trace, float, int]:
    """The trace, the seconds in rounds, and the tokens of one completion."""
    llm.trace = Trace()
    (output,) = llm.generate([prompt], params, mode)
    trace, llm.trace = llm.trace, None
    return trace, llm.last_run.in_rounds, len(output.outputs[0].token_ids)


@click.command()
@click.argument("engine", type=click.Path(path_type=Path))
@click.option("--prompts", default=20)
@click.option("--max-tokens", default=64)
@click.option("--output", type=click.Path(path_type=Path), default=Path(__file__).parent / "results/anytime.json")
def main(engine: Path, prompts: int, max_tokens: int, output: Path) -> None:
    lines = [line.prompt for line in read_prompts(PROMPTS)[:prompts]]
    params = SamplingParams(max_tokens=max_tokens, temperature=0, ignore_eos=True)
    with LLM(engine, speculation={"fallback": "draft"}) as llm:
        draft = llm.pair.draft
        slowed = draft.session = Slowed(draft.session)  # before a drafter is made of it
        trace, _, _ = rounds_of(llm, lines[0], params, "ar")
        verification = median(r.end - r.start for r in trace.rounds)
        depths = llm.speculation["lookahead"] + 1
        steps = {ratio: ratio * verification / depths for ratio in (1, 2)}
        rates: dict[tuple[int, str], list[float]] = {}
        hits: dict[int, list[float]] = {ratio: [] for ratio in steps}
        for line in lines:
            for ratio, seconds in steps.items():
                slowed.seconds = seconds
                for mode in ("sd", "ssd"):
                    trace, spent, tokens = rounds_of(llm, line, params, mode)
                    rates.setdefault((ratio, mode), []).append(tokens / spent)
                    if mode == "ssd":
                        hits[ratio] += [r.end - r.start for r in trace.rounds if r.name == "hit"]
    lost = (median(hits[2]) - median(hits[1])) / steps[2]
    result = {
        "verification_ms": verification * 1e3,
        "draft_step_ms": {str(ratio): seconds * 1e3 for ratio, seconds in steps.items()},
        "round_of_a_hit_ms": {str(ratio): median(times) * 1e3 for ratio, times in hits.items()},
        "draft_steps_lost_a_round": lost,
        "ssd_over_sd": {
            str(ratio): median(a / b for a, b in zip(rates[ratio, "ssd"], rates[ratio, "sd"], strict=True))
            for ratio in steps
        },
        "prompts": len(lines),
        "speculation": llm.speculation,
    }
    output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    click.echo(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
