"""Arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

engine_argument = click.argument("engine", type=click.Path(path_type=Path))
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")

prompts_option = click.option(
    "--prompts",
    type=click.Path(path_type=Path),
    metavar="FILE.jsonl",
    help='Lines {"prompt": "..."} or {"messages": [...]}; the demo has its own.',
)
temperature_option = click.option(
    "--temperature", type=float, default=0.0, show_default=True, help="0 is greedy."
)
repeat_option = click.option(
    "--repeat",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="What is measured is the median over this many passes.",
)


def max_tokens_option(default: int) -> Callable[[Command], Command]:
    return click.option(
        "--max-tokens",
        type=int,
        default=default,
        show_default=True,
        metavar="N",
        help="Most tokens to generate.",
    )
