"""`saguaro bench`."""

from __future__ import annotations

import json
from pathlib import Path

import click

from saguaro.cli.bundled import own_prompts
from saguaro.cli.options import (
    engine_argument,
    json_option,
    max_tokens_option,
    prompts_option,
    repeat_option,
    temperature_option,
)
from saguaro.cli.prompt_input import read_prompts


@click.command()
@engine_argument
@prompts_option
@click.option("--modes", default="ar,sd,ssd", show_default=True, metavar="LIST")
@max_tokens_option(64)
@temperature_option
@repeat_option
@click.option("--trace", type=click.Path(path_type=Path), metavar="FILE",
              help="Write the first pass as a timeline for chrome://tracing or Perfetto.")  # fmt: skip
@json_option
def bench(
    engine: Path,
    prompts: Path | None,
    modes: str,
    max_tokens: int,
    temperature: float,
    repeat: int,
    trace: Path | None,
    as_json: bool,
) -> None:
    """Compare the decoding modes on the engine directory ENGINE.

    The modes take turns prompt by prompt in one run, after a warm-up.
    """
    from rich.console import Console

    from saguaro import LLM, SamplingParams
    from saguaro.cli.measure import compare
    from saguaro.cli.tables import print_comparison
    from saguaro.engine.directory import read_manifest
    from saguaro.runtime.trace import Trace, check_place

    chosen = _modes(modes)
    timeline = Trace() if trace and check_place(trace) else None
    params = SamplingParams(max_tokens=max_tokens, temperature=temperature, seed=0)
    lines = read_prompts(prompts or own_prompts(read_manifest(engine)))
    with Console(stderr=True).status("loading the engine") as status, LLM(engine) as llm:
        comparison = compare(
            llm,
            lines,
            chosen,
            params,
            repeat,
            lambda done, total: status.update(f"measuring: {done}/{total}"),
            timeline,
        )
    if as_json:
        click.echo(json.dumps({**comparison.to_dict(), "engine": str(engine)}))
    else:
        print_comparison(Console(), comparison)
    if trace and timeline:
        timeline.write(trace)


def _modes(text: str) -> list[str]:
    from saguaro.runtime.pair import check_mode

    modes = [check_mode(mode.strip()) for mode in text.split(",")]
    return list(dict.fromkeys(modes))


