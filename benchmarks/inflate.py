"""Turn a small Llama checkpoint into one of any larger shape that computes the same function.

    python benchmarks/inflate.py examples/demo/target /tmp/8b --like llama-3.1-8b --dtype bf16

For timing big shapes with real text and real acceptance rates on machines that cannot download weights.
`--like` sets a known model's sizes, the other options go before it one by one, and what none of them sets
stays as it is.

Why the function is the same. h, H are the small and the large hidden size; a residual x becomes [x, 0]:
- **Norms.** The mean of squares of [x, 0] over H is h/H times that of x over h. With eps' = eps h/H,
  `1/sqrt(mean' + eps') = sqrt(H/h) / sqrt(mean + eps)`, which gains multiplied by sqrt(h/H) undo. (Up to the
  rounding of the gains: in bf16 none where H/h is a power of 4, in fp32 no more than that of any sum.)
- **Weights that read the residual** (q, k, v, gate, up, head) meet zeros in their padding columns, which may
  hold anything. **Weights that write it** (embedding, o, down) are zero in their padding rows: it stays
  [x, 0].
- **Heads.** An extra query head computes something, and zero columns of o ignore it. Query head j reads
  key-value head j // G, with G query heads to each. So the g query heads of a small key-value head go to
  consecutive places under one large one or, when G < g, under ceil(g/G) copies of it. The head size, and with
  it RoPE, stays.
- **MLP.** An extra neuron computes something, and a zero column of down ignores it.
- **Layers.** Extra layers are random but for o and down, which are zero: they add nothing to the residual.
- **Vocabulary.** A padding token must never win, so it needs a negative bias, and a residual coordinate that
  always holds a constant c gives one: every embedding has c there, no weight writes it, and all norms but the
  last have gain 0 there. Its square is taken out of eps: `eps' = (h eps - c^2)/H`. A padding row of the head
  has a large negative weight there, which makes its logit about -8192 sqrt(H/h) / rms(x). Where the head is
  the embedding, the logits of all real tokens grow by one and the same tiny amount: no choice and no
  probability changes.

What need not be zero is random, so that nothing of the large shape's cost can be skipped.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import torch

from saguaro.builder.checkpoint import (
    Checkpoint,
    expected_tensors,
    open_checkpoint,
    parse_config,
    tokenizer_files,
)
from saguaro.builder.progress import Progress, silent
from saguaro.cli.progress import BuildProgress
from saguaro.errors import CheckpointError, ConfigError, InputError, SaguaroError
from saguaro.models.config import ModelConfig

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
# How safetensors and config.json spell them.
STORED = {torch.float32: ("F32", "float32"), torch.bfloat16: ("BF16", "bfloat16")}
SHARD_BYTES = 2 * 10**9
NOISE = 0.02  # deviation of random weights
# Of the vocabulary's bias, exact in fp16 too: c, the last norm's gain for it, a padding row's weight for it.
CONSTANT, CONSTANT_GAIN, PADDING_WEIGHT = 2.0**-12, 2.0**10, -(2.0**15)


@dataclass(frozen=True)
class Like:
    """A known model's sizes. Its attention is given in widths, since the head size stays the source's."""

    hidden_size: int
    num_layers: int
    query_width: int
    kv_width: int
    intermediate_size: int
    vocab_size: int = 128256


LIKE = {
    "llama-3.1-8b": Like(4096, 32, 4096, 1024, 14336),
    "llama-3.2-1b": Like(2048, 16, 2048, 512, 8192),
}

# Fields of config.json by the options that set them.
FIELDS = {
    "hidden_size": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "intermediate_size": "intermediate_size",
    "vocab_size": "vocab_size",
}
# Axes of each module's weight, [out, in]; its bias has the first.
AXES = {
    "embed_tokens": ("vocab", "hidden"),
    "input_layernorm": ("hidden",),
    "q_proj": ("query", "hidden"),
    "k_proj": ("kv", "hidden"),
    "v_proj": ("kv", "hidden"),
    "o_proj": ("hidden", "query"),
    "post_attention_layernorm": ("hidden",),
    "gate_proj": ("inner", "hidden"),
    "up_proj": ("inner", "hidden"),
    "down_proj": ("hidden", "inner"),
    "norm": ("hidden",),
    "lm_head": ("vocab", "hidden"),
}
Indices = tuple[list[int], list[int]]  # into the large axis, out of the small one


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
    raw = _inflated_config(checkpoint, sizes, element)
    model = Inflation(checkpoint, parse_config(raw, str(output / "config.json")), element)
    output = output.absolute()
    if output.exists() and not (output.is_dir() and not any(output.iterdir())):
        raise ConfigError(f"{output}: exists; name a new directory or remove it")
    partial = output.with_name(f".{output.name}.partial-{os.getpid()}")
    try:
        partial.mkdir(parents=True)
        _write_weights(partial, expected_tensors(model.large), element, model.tensor, progress)
        (partial / "config.json").write_text(json.dumps(raw, indent=2) + "\n")
        for file in tokenizer_files(checkpoint.path):
            shutil.copyfile(file, partial / file.name)
        partial.rename(output)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return output


def sizes_like(name: str, head_dim: int) -> dict[str, int]:
    """The sizes of `LIKE[name]` with heads of `head_dim`. Raises ConfigError where they do not divide it."""
    like = LIKE[name]
    if like.query_width % head_dim or like.kv_width % head_dim:
        raise ConfigError(
            f"--like is {name}, whose key-value width {like.kv_width} is no multiple of the source's "
            f"head_dim {head_dim}; give the sizes one by one"
        )
    heads = {"num_heads": like.query_width // head_dim, "num_kv_heads": like.kv_width // head_dim}
    return heads | {name: getattr(like, name) for name in FIELDS if hasattr(like, name)}


class Inflation:
    """The large model's tensors by name, each made when it is asked for; see the module's docstring."""

    def __init__(self, source: Checkpoint, large: ModelConfig, dtype: torch.dtype):
        small = source.config
        self.large, self._small, self._tensors, self._dtype = large, small, source.tensors, dtype
        self._random = torch.Generator().manual_seed(0)
        queries, kv = _head_places(small, large)
        self._places: dict[str, Indices] = {
            "vocab": _first(small.vocab_size),
            "hidden": _first(small.hidden_size),
            "inner": _first(small.intermediate_size),
            "query": _head_rows(queries, small.head_dim),
            "kv": _head_rows(kv, small.head_dim),
        }
        # The small model's layers, each the last of its share of the large one's.
        count, total = small.num_layers, large.num_layers
        self._layers = {(layer + 1) * total // count - 1: layer for layer in range(count)}
        self._padded_vocabulary = large.vocab_size > small.vocab_size
        self._shapes = expected_tensors(large)

    def tensor(self, name: str) -> torch.Tensor:
        """The large model's tensor `name`."""
        module = name.split(".")[-2]
        is_norm = module.endswith("norm")
        scale = math.sqrt(self._small.hidden_size / self.large.hidden_size) if is_norm else 1.0
        if module in ("embed_tokens", "o_proj", "down_proj"):
            tensor = torch.zeros(self._shapes[name], dtype=self._dtype)
        else:
            tensor = torch.empty(self._shapes[name], dtype=self._dtype)
            tensor.normal_(scale if is_norm else 0.0, NOISE * scale, generator=self._random)
        if (small_name := self._small_name(name)) is not None:
            axes = AXES[module][: tensor.ndim]
            into, out_of = (
                torch.meshgrid(*(torch.tensor(self._places[axis][side]) for axis in axes), indexing="ij")
                for side in (0, 1)
            )
            small = self._tensors.get(small_name)[out_of]
            tensor[into] = (small.double() * scale).to(self._dtype) if is_norm else small.to(self._dtype)
        if self._padded_vocabulary:
            self._add_bias(module, tensor)
        return tensor

    def _small_name(self, name: str) -> str | None:
        """The small model's tensor that goes into `name`; None in an extra layer."""
        if not name.startswith("model.layers."):
            return name
        _, _, index, rest = name.split(".", 3)
        layer = self._layers.get(int(index))
        return None if layer is None else f"model.layers.{layer}.{rest}"

    def _add_bias(self, module: str, tensor: torch.Tensor) -> None:
        """The vocabulary's bias in the first padding coordinate of the residual."""
        at, real = self._small.hidden_size, self._small.vocab_size
        if module.endswith("norm"):
            tensor[at] = CONSTANT_GAIN if module == "norm" else 0.0
        elif module in ("embed_tokens", "lm_head"):
            tensor[real:].normal_(0.0, NOISE, generator=self._random)
            tensor[:real, at] = CONSTANT if module == "embed_tokens" else 0.0
            tensor[real:, at] = PADDING_WEIGHT


def _inflated_config(checkpoint: Checkpoint, sizes: dict[str, int], dtype: torch.dtype) -> dict[str, Any]:
    """config.json of the large model, its sizes checked against the small one's."""
    small = checkpoint.config
    full = {name: sizes.get(name, getattr(small, name)) for name in FIELDS}
    for name, size in full.items():
        if size < getattr(small, name):
            raise ConfigError(
                f"--{name.replace('_', '-')} is {size}, expected at least the source's {getattr(small, name)}"
            )
    hidden, heads, kv_heads = full["hidden_size"], full["num_heads"], full["num_kv_heads"]
    if hidden % heads:  # transformers asks for it even where head_dim is given
        raise ConfigError(f"--hidden-size is {hidden}, expected a multiple of the {heads} query heads")
    if heads % kv_heads:
        raise ConfigError(f"--num-kv-heads is {kv_heads}, expected a divisor of the {heads} query heads")
    needed = small.num_kv_heads * _copies(small.num_heads // small.num_kv_heads, heads // kv_heads)
    if needed > kv_heads:
        raise ConfigError(
            f"--num-kv-heads is {kv_heads}, expected at least {needed}, since {heads // kv_heads} query "
            f"heads to each are fewer than the source's {small.num_heads // small.num_kv_heads}"
        )
    square = 0.0
    if full["vocab_size"] > small.vocab_size:
        square = CONSTANT**2
        if hidden == small.hidden_size or small.hidden_size * small.rms_norm_eps <= square:
            raise ConfigError(
                f"--vocab-size is {full['vocab_size']}, expected {small.vocab_size} as in the source, unless "
                f"--hidden-size is larger too and rms_norm_eps above {square / small.hidden_size:.1e}"
            )
    raw: dict[str, Any] = json.loads((checkpoint.path / "config.json").read_text())
    raw.pop("torch_dtype", None)
    return raw | {
        **{FIELDS[name]: size for name, size in full.items()},
        "head_dim": small.head_dim,
        "rms_norm_eps": (small.hidden_size * small.rms_norm_eps - square) / hidden,
        "dtype": STORED[dtype][1],
    }


def _copies(small_group: int, large_group: int) -> int:
    """Large key-value heads for one small one, given how many query heads each kind serves."""
    return -(-small_group // large_group)


def _head_places(small: ModelConfig, large: ModelConfig) -> tuple[Indices, Indices]:
    """Where query heads and key-value heads go. A large key-value head serves the query heads below it."""
    small_group, large_group = small.num_heads // small.num_kv_heads, large.num_heads // large.num_kv_heads
    copies = _copies(small_group, large_group)
    queries: Indices = ([], [])
    for head in range(small.num_heads):
        kv_head, member = divmod(head, small_group)
        copy, place = divmod(member, large_group)
        queries[0].append((kv_head * copies + copy) * large_group + place)
        queries[1].append(head)
    used = small.num_kv_heads * copies
    return queries, (list(range(used)), [head // copies for head in range(used)])


def _head_rows(heads: Indices, head_dim: int) -> Indices:
    into, out_of = ([head * head_dim + row for head in side for row in range(head_dim)] for side in heads)
    return into, out_of


def _first(count: int) -> Indices:
    return list(range(count)), list(range(count))


def _write_weights(
    directory: Path,
    shapes: dict[str, tuple[int, ...]],
    dtype: torch.dtype,
    make: Callable[[str], torch.Tensor],
    progress: Progress,
) -> None:
    """safetensors files of at most SHARD_BYTES each, unless one tensor alone is larger, and their index."""
    sizes = {name: math.prod(shape) * dtype.itemsize for name, shape in shapes.items()}
    total, free = sum(sizes.values()), shutil.disk_usage(directory).free
    if total > free:
        raise ConfigError(f"{directory.parent}: {free / 1e9:.1f} GB are free, expected {total / 1e9:.1f} GB; make room")
    shards: list[list[str]] = [[]]
    used = 0
    for name, size in sizes.items():
        if shards[-1] and used + size > SHARD_BYTES:
            shards.append([])
            used = 0
        shards[-1].append(name)
        used += size
    files = [f"model-{at:05}-of-{len(shards):05}.safetensors" for at in range(1, len(shards) + 1)]
    if len(shards) == 1:
        files = ["model.safetensors"]
    done = 0
    for file_name, names in zip(files, shards, strict=True):
        with open(directory / file_name, "wb") as file:
            file.write(_header({name: shapes[name] for name in names}, dtype))
            for name in names:
                progress("inflate: weights", done, len(sizes))
                file.write(make(name).view(torch.uint8).numpy().data)  # one tensor in memory at a time
                done += 1
    progress("inflate: weights", done, len(sizes))
    if len(shards) > 1:
        weight_map = {name: file for file, names in zip(files, shards, strict=True) for name in names}
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (directory / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")


def _header(shapes: dict[str, tuple[int, ...]], dtype: torch.dtype) -> bytes:
    """What a safetensors file begins with: the header's length, and each tensor's type, shape and place."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + math.prod(shape) * dtype.itemsize
        entries[name] = {"dtype": STORED[dtype][0], "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(entries).encode()
    text += b" " * (-len(text) % 8)  # so that the tensors are aligned
    return struct.pack("<Q", len(text)) + text


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


if __name__ == "__main__":
    main()
