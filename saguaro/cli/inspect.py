"""`saguaro inspect`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from saguaro.cli.options import engine_argument, json_option

if TYPE_CHECKING:
    from rich.table import Table

    from saguaro.engine.manifest import Manifest, ModelEntry


@click.command()
@engine_argument
@json_option
def inspect(engine: Path, as_json: bool) -> None:
    """Show what the engine directory ENGINE holds, after verifying every file of it."""
    from saguaro.engine.directory import open_engine_directory

    manifest = open_engine_directory(engine)
    if as_json:
        click.echo(json.dumps(manifest.to_dict(), indent=1))
        return
    from rich.console import Console

    Console().print(_table(engine, manifest), highlight=False)


def _table(engine: Path, manifest: Manifest) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(
        title=escape(str(engine)), title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0)
    )
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for role in ("target", "draft"):
        for name, text in _model(getattr(manifest, role)):
            table.add_row(name and f"{role} {name}", escape(text))
    table.add_row("backend", f"{manifest.backend}, {manifest.precision}")
    table.add_row("room", f"{manifest.max_batch_size} sequences of up to {manifest.max_seq_len} tokens")
    speculation = manifest.speculation
    table.add_row("speculation", ", ".join(f"{name} {value}" for name, value in speculation.items()))
    table.add_row("built with", ", ".join(f"{name} {value}" for name, value in manifest.built_with.items()))
    size = sum(file["bytes"] for file in manifest.files.values())
    table.add_row("files", f"{len(manifest.files)}, {_size(size)}, all as built (sha256)")
    table.add_row("format", f"version {manifest.format_version}")
    return table


def _model(entry: ModelEntry) -> list[tuple[str, str]]:
    config = entry.model_config
    shape = (
        f"{config.num_layers} layers of {config.hidden_size}, {config.num_heads} heads over "
        f"{config.num_kv_heads} of {config.head_dim}, vocabulary {config.vocab_size}"
    )
    return [
        ("model", f"{config.architecture}: {shape}"),
        ("source", entry.source),
        ("engine", f"{entry.form}, {entry.rows} KV rows, device {entry.device}, {_count(entry.threads)}"),
    ]


def _count(threads: int) -> str:
    return f"{threads} CPU thread{'s' if threads > 1 else ''}"


def _size(count: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if count < 1000:
            return f"{count:.4g} {unit}"
        count /= 1000
    return f"{count:.4g} GB"
