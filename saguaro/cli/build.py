"""`saguaro build`."""

from __future__ import annotations

from pathlib import Path

import click

from saguaro.cli.progress import BuildProgress


@click.command()
@click.argument("config", required=False, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), metavar="DIR",
              help="The engine directory to write.  [default: engines/NAME for NAME.yaml]")  # fmt: skip
@click.option("--target", metavar="CKPT", help="A Hugging Face directory or hub id org/name[@revision].")
@click.option("--draft", metavar="CKPT", help="The same, for the small model that guesses.")
@click.option("--backend", metavar="NAME", help="torch, tensorrt-rtx, tensorrt or tensorrt-llm.")
@click.option("--precision", metavar="TYPE", help="fp32, bf16 or fp16.")
@click.option("--max-batch-size", type=int, metavar="N", help="Most sequences at once.")
@click.option("--max-seq-len", type=int, metavar="N", help="Most tokens of a prompt and its completion.")
@click.option("--lookahead", type=int, metavar="K", help="Tokens in one speculation.")
@click.option("--budget", type=int, metavar="B", help="Outcomes to prepare a speculation for in each round.")
@click.option("--tree-nodes", type=int, metavar="N", help="Nodes of a speculated token tree; 0: chains.")
@click.option("--verification", metavar="RULE", help="coupled or rejection: when a speculated token is accepted.")
@click.option("--compute-capability", multiple=True, metavar="X.Y",
              help="A GPU to compile TensorRT plans for, such as 8.9; repeatable.")  # fmt: skip
@click.option("--weights", metavar="KIND", help="external or embedded, of TensorRT plans.")
@click.option("--attention", metavar="KIND", help="plugin or native, of TensorRT plans.")
@click.option("--weights-by-reference", is_flag=True,
              help="Leave external weights where the checkpoint has them.")  # fmt: skip
@click.option("--enforce-eager", is_flag=True, default=None, help="Skip ahead-of-time compilation.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
def build(
    config: Path | None,
    output: Path | None,
    quiet: bool,
    compute_capability: tuple[str, ...],
    **options: object,
) -> None:
    """Build an engine directory from the deployment file CONFIG, or from --target and --draft.

    Options take the place of what CONFIG says.
    """
    if output is None:
        if config is None:
            raise click.UsageError("name the engine directory to write: -o DIR")
        output = Path("engines") / config.stem
    with BuildProgress(quiet) as progress:
        from saguaro.api import build as build_engine

        path = build_engine(
            config,
            output=output,
            compute_capability=compute_capability or None,
            progress=progress.update,
            **options,  # type: ignore[arg-type]
        )
    if not quiet:
        click.echo(f"Built {path} in {progress.elapsed:.1f} s.", err=True)
