"""The command line: `saguaro build | generate | bench | tune | inspect | demo`."""

from __future__ import annotations

import click

from saguaro import __version__
from saguaro.cli.bench import bench
from saguaro.cli.build import build
from saguaro.cli.demo import demo
from saguaro.cli.errors import ErrorsAsSentences
from saguaro.cli.generate import generate
from saguaro.cli.inspect import inspect
from saguaro.cli.tune import tune


@click.group(cls=ErrorsAsSentences, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="saguaro")
def main() -> None:
    """Compile a target and a draft language model into one engine, and run them concurrently: exact
    speculative speculative decoding."""


for command in (build, generate, bench, tune, inspect, demo):
    main.add_command(command)
