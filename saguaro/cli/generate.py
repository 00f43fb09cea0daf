"""`saguaro generate`."""

from __future__ import annotations

import json
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import click

from saguaro.cli.errors import INTERRUPTED
from saguaro.cli.options import engine_argument, json_option, max_tokens_option
from saguaro.cli.prompt_input import prompt_text
from saguaro.cli.summary import summary

if TYPE_CHECKING:
    from saguaro import LLM, RequestOutput, SamplingParams


@click.command()
@engine_argument
@click.option("--prompt", metavar="TEXT", help="The prompt.")
@click.option("--prompt-file", type=click.Path(path_type=Path), metavar="F", help="A file that holds it.")
@click.option("--mode", metavar="ar|sd|ssd", help="How to decode.  [default: as the engine was built]")
@max_tokens_option(128)
@click.option("--temperature", type=float, default=0.0, show_default=True, help="0 is greedy.")
@click.option("--top-p", type=float, default=1.0, show_default=True)
@click.option("--top-k", type=int, default=0, show_default=True, help="0 keeps all tokens.")
@click.option("--seed", type=int, help="The same seed gives the same text.  [default: random]")
@json_option
def generate(
    engine: Path,
    prompt: str | None,
    prompt_file: Path | None,
    mode: str | None,
    as_json: bool,
    **sampling: Any,
) -> None:
    """Complete a prompt with the engine directory ENGINE.

    The prompt comes from --prompt, --prompt-file or standard input (without the newline at its end). The new
    text streams to standard output, a summary goes to standard error.
    """
    from saguaro import LLM, SamplingParams

    params = SamplingParams(**sampling)
    text = prompt_text(prompt, prompt_file)
    with LLM(engine, mode=mode) as llm:
        stream = _Stream(llm, show=not as_json)
        try:
            stream.run(text, params)
        except KeyboardInterrupt:
            stream.interrupted = True
        if as_json:
            click.echo(json.dumps(stream.to_dict()))
        else:
            click.echo()
            click.echo(stream.summary(), err=True)
    if stream.interrupted:
        raise click.exceptions.Exit(INTERRUPTED)


class _Stream:
    """A completion as far as it came."""

    def __init__(self, llm: LLM, show: bool):
        self._llm, self._show = llm, show
        self._text: list[str] = []
        self._tokens: list[int] = []
        self._output: RequestOutput | None = None
        self._began = perf_counter()
        self.interrupted = False

    def run(self, prompt: str, params: SamplingParams) -> None:
        for chunk in self._llm.stream(prompt, params):
            self._text.append(chunk.text)
            self._tokens += chunk.token_ids
            self._output = chunk.output
            if self._show:
                click.echo(chunk.text, nl=False)

    def to_dict(self) -> dict[str, Any]:
        if self._output is None:  # interrupted; "abort" is what vLLM calls it
            metrics: dict[str, Any] = {
                "output_tokens": len(self._tokens),
                "seconds": perf_counter() - self._began,
            }
            return {
                "text": "".join(self._text), "token_ids": self._tokens, "finish_reason": "abort",
                "metrics": metrics,
            }  # fmt: skip
        (completion,) = self._output.outputs
        return {
            "text": completion.text,
            "token_ids": completion.token_ids,
            "finish_reason": completion.finish_reason,
            "metrics": completion.metrics.to_dict(),
        }

    def summary(self) -> str:
        if self._output is None:
            return f"Interrupted after {len(self._tokens)} tokens."
        metrics = self._output.metrics
        return f"{summary(self._llm.mode, metrics)}, seed {metrics.seed}"
