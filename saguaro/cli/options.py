"""Arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])

engine_argument = click.argument("engine", type=click.Path(path_type=Path))
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object and nothing else.")


def max_tokens_option(default: int) -> Callable[[Command], Command]:
    return click.option(
        "--max-tokens",
        type=int,
        default=default,
        show_default=True,
        metavar="N",
        help="Most tokens to generate.",
    )
