"""`saguaro tune`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

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
from saguaro.cli.prompt_input import PromptLine, read_prompts
from saguaro.errors import RequestError

if TYPE_CHECKING:
    from saguaro import LLM


@click.command()
@engine_argument
@prompts_option
@temperature_option
@click.option("--batch", default="1", show_default=True, metavar="LIST", help="Batch sizes to be quick at: 1,2,4.")
@max_tokens_option(64)
@repeat_option
@click.option("--report", type=click.Path(path_type=Path), metavar="FILE.json",
              help="What is measured; an interrupted run goes on from it.  [default: ENGINE.tuning.json]")  # fmt: skip
@json_option
def tune(
    engine: Path,
    prompts: Path | None,
    temperature: float,
    batch: str,
    max_tokens: int,
    repeat: int,
    report: Path | None,
    as_json: bool,
) -> None:
    """Find the settings that are quickest on this machine, and write them into the engine directory ENGINE.

    Measures what verifying and drafting cost, records the target's text for the prompts, predicts the speed of every
    setting that the engine has room for, runs the best few, and keeps the quickest. No token depends on it.
    """
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.table import Table

    from saguaro import LLM
    from saguaro.engine.directory import read_manifest
    from saguaro.tuner.tune import Tuner

    lines = read_prompts(prompts or own_prompts(read_manifest(engine)))
    batches = _batches(batch)
    file = report or engine.resolve().with_name(f"{engine.resolve().name}.tuning.json")
    display = Progress(
        SpinnerColumn(finished_text="[green]✓"),
        TextColumn("{task.description:<18}"),
        TimeElapsedColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        console=Console(stderr=True),
    )
    with display, LLM(engine) as llm:
        tasks = {}

        def progress(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = display.add_task(stage, total=total)
            display.update(tasks[stage], completed=done)

        verified = Tuner(
            llm, _tokens(llm, lines, max_tokens), temperature=temperature, max_tokens=max_tokens,
            batches=batches, repeat=repeat, report=file, progress=progress,
        ).run()  # fmt: skip
    if as_json:
        rows = [
            {**v.settings.to_dict(), "predicted": v.predicted, "measured": v.measured,
             "tokens_per_second": v.tokens_per_second, "calibrated": v.calibrated}
            for v in verified
        ]  # fmt: skip
        click.echo(json.dumps({"engine": str(engine), "chosen": verified[0].settings.to_dict(), "verified": rows}))
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="bold")
    for heading in ("settings", *(f"batch {b}: predicted, measured over ar" for b in batches)):
        table.add_column(heading)
    for one in verified:
        speeds = [
            f"{one.predicted[b]:.2f}, {one.measured[b]:.2f} ({one.predicted[b] / one.measured[b] - 1:+.0%}), "
            f"{one.tokens_per_second[b]:.0f} tokens/s"
            for b in batches
        ]
        table.add_row(str(one.settings), *speeds, style="bold green" if one is verified[0] else "")
    console = Console()
    console.print(table)
    console.print(f"{engine} now has the settings of the first line. What was measured: {file}", highlight=False)


def _batches(text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) >= 1 for part in parts):
        raise click.UsageError(f"--batch is {text!r}; expected batch sizes such as 1,2,4")
    return list(dict.fromkeys(map(int, parts)))


def _tokens(llm: LLM, lines: list[PromptLine], max_tokens: int) -> list[list[int]]:
    from saguaro import SamplingParams

    params, tokens = SamplingParams(max_tokens=max_tokens), []
    for line in lines:
        try:
            tokens.append(llm.encode(line.prompt, params))
        except RequestError as error:
            raise RequestError(f"{line.place}: {error}") from error
    return tokens
