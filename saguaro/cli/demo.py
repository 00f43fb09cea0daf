"""`saguaro demo`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from saguaro.cli import bundled
from saguaro.cli.progress import BuildProgress
from saguaro.errors import ConfigError

if TYPE_CHECKING:
    from rich.console import Console

    from saguaro import LLM

MODES = {
    "ar": "the target alone, one token after another",
    "sd": "the draft guesses, then the target verifies",
    "ssd": "the draft guesses while the target verifies",
}
PROMPT = 'def read_lines(path):\n    """Return the lines of the file at path."""\n'
SHOWN_TOKENS = 96
MEASURED_PROMPTS, MEASURED_TOKENS, REPEAT = 10, 64, 3


@click.command()
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="DIR",
              help="Where to write the engine.  [default: engines/demo in the repository]")  # fmt: skip
def demo(output: Path | None) -> None:
    """Build the bundled pair and run it in all three modes."""
    directory = bundled.demo_directory()
    if directory is None:
        raise ConfigError(
            f"{bundled.ROOT / 'examples' / 'demo'}: the demo pair is not there, as it is part of the "
            "repository and not of the installed package; clone the repository and run `make demo` in it"
        )
    from rich.console import Console

    from saguaro import LLM, build
    from saguaro.cli.demo_tensorrt import show_tensorrt

    console = Console(highlight=False)
    output = output or bundled.ROOT / "engines" / "demo"
    config = bundled.ROOT / "configs" / "demo.yaml"
    console.print("[bold]Compiling the target and the draft into one engine[/bold]")
    with BuildProgress() as progress:
        build(config, output=output, progress=progress.update)
    console.print(f"Built {_short(output)} in {progress.elapsed:.0f} s.\n")
    with LLM(output) as llm:
        _stream(console, llm)
        _measure(console, llm, directory / "prompts.jsonl")
    show_tensorrt(console, config, output)
    console.print("\nGo on with:")
    console.print(f"  saguaro generate {_short(output)} --prompt 'class Stack:'", soft_wrap=True)
    console.print("  saguaro build --target CKPT --draft CKPT -o DIR", soft_wrap=True)


def _stream(console: Console, llm: LLM) -> None:
    """The same completion three times, as it comes."""
    from saguaro import SamplingParams
    from saguaro.cli.summary import summary

    with console.status("warming up"):
        for mode in MODES:
            llm.generate(PROMPT, SamplingParams(max_tokens=16, temperature=0), mode)
    for mode, meaning in MODES.items():
        console.print(f"[bold]{mode}[/bold], {meaning}")
        console.print(PROMPT, style="dim", end="", markup=False)
        for chunk in llm.stream(PROMPT, SamplingParams(max_tokens=SHOWN_TOKENS, temperature=0), mode):
            console.out(chunk.text, end="", style="cyan", highlight=False)
            if chunk.output is not None:
                console.print(f"\n[bold]{summary(mode, chunk.output.metrics)}[/bold]\n")


def _measure(console: Console, llm: LLM, prompts: Path) -> None:
    from saguaro import SamplingParams
    from saguaro.cli.measure import compare
    from saguaro.cli.prompt_input import read_prompts
    from saguaro.cli.tables import print_comparison

    lines = read_prompts(prompts)[:MEASURED_PROMPTS]
    console.print(
        f"[bold]{len(lines)} held-out prompts, {MEASURED_TOKENS} tokens each, the modes taking turns; "
        f"medians of {REPEAT}[/bold]"
    )
    params = SamplingParams(max_tokens=MEASURED_TOKENS, temperature=0)
    with console.status("measuring") as status:
        comparison = compare(
            llm,
            lines,
            list(MODES),
            params,
            REPEAT,
            lambda done, total: status.update(f"measuring: {done}/{total}"),
        )
    print_comparison(console, comparison)


def _short(path: Path) -> Path:
    """As one would type it here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
