"""Does it: opens the checkpoint, writes the large model where nothing was, and says what is wrong in one line."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import click
import torch

from saguaro.builder.checkpoint import expected_tensors, open_checkpoint, parse_config, tokenizer_files
from saguaro.builder.progress import Progress, silent
from saguaro.cli.progress import BuildProgress
from saguaro.errors import CheckpointError, ConfigError, InputError, SaguaroError

from .files import STORED, write_weights
from .sizes import LIKE, inflated_config, sizes_like
from .tensors import Inflation

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def inflate(
    source: str, output: Path, sizes: dict[str, int], dtype: str | None = None, progress: Progress = silent
) -> Path:
    """Write to `output` a checkpoint that computes what `source` does; returns its path.

    Args:
        source: a local Hugging Face directory, or a hub id; a LlamaForCausalLM.
        output: a directory that does not exist or is empty; it is there only once it is whole.
        sizes: `hidden_size`, `num_layers`, `num_heads`, `num_kv_heads`, `intermediate_size`, `vocab_size`;
            what is absent stays as it is.
        dtype: "fp32", "bf16", or None for what the source is stored in.

    Raises:
        InputError: a size below the source's or one that does not fit the others, another architecture, an
            output that is taken, too little room on the disk.
    """
    checkpoint = open_checkpoint(source)
    if checkpoint.config.architecture != "LlamaForCausalLM":
        raise CheckpointError(
            f"{checkpoint.path}: a {checkpoint.config.architecture}, expected a LlamaForCausalLM; "
            "choose another checkpoint"
        )
    stored = checkpoint.tensors.dtype("model.embed_tokens.weight")
    element = DTYPES[dtype] if dtype else stored if stored in STORED else torch.float32
    raw = inflated_config(checkpoint, sizes, element)
    model = Inflation(checkpoint, parse_config(raw, str(output / "config.json")), element)
    output = output.absolute()
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise ConfigError(f"{output}: exists; name a new directory or remove it")
    partial = output.with_name(f".{output.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        write_weights(partial, expected_tensors(model.large), element, model.tensor, progress)
        (partial / "config.json").write_text(json.dumps(raw, indent=2) + "\n")
        for file in tokenizer_files(checkpoint.path):
            shutil.copyfile(file, partial / file.name)
        partial.rename(output)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return output


class _BadInput(click.ClickException):
    exit_code = 2


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source")
@click.argument("output", type=click.Path(path_type=Path))
@click.option("--like", type=click.Choice(list(LIKE)), help="Sizes of a known model, where no option sets them.")
@click.option("--hidden-size", type=int, metavar="N", help="Width of the residual.")
@click.option("--num-layers", type=int, metavar="N", help="Layers.")
@click.option("--num-heads", type=int, metavar="N", help="Query heads.")
@click.option("--num-kv-heads", type=int, metavar="N", help="Key-value heads, a divisor of the query heads.")
@click.option("--intermediate-size", type=int, metavar="N", help="Width of the MLP.")
@click.option("--vocab-size", type=int, metavar="N", help="Tokens; the added ones are never chosen.")
@click.option("--dtype", type=click.Choice(list(DTYPES)), help="Of the weights.  [default: the source's]")
def main(source: str, output: Path, like: str | None, dtype: str | None, **options: int | None) -> None:
    """Write to OUTPUT a checkpoint of a larger shape that computes what the Llama checkpoint SOURCE does."""
    try:
        sizes = {name: size for name, size in options.items() if size is not None}
        if like:
            sizes = sizes_like(like, open_checkpoint(source).config.head_dim) | sizes
        with BuildProgress() as progress:
            path = inflate(source, output, sizes, dtype, progress.update)
    except InputError as error:
        raise _BadInput(str(error)) from error
    except (SaguaroError, OSError) as error:
        raise click.ClickException(str(error)) from error
    stored = sum(file.stat().st_size for file in path.glob("*.safetensors"))
    click.echo(f"Wrote {path}, {stored / 1e9:.2f} GB, in {progress.elapsed:.1f} s.", err=True)
