"""The `torch` backend: a model compiled ahead of time for this CPU, or its fused weights for any device."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import signal
import subprocess
import warnings
import zipfile
from pathlib import Path

import torch
from safetensors.torch import save_file

from saguaro.errors import SaguaroError
from saguaro.models.config import ModelConfig
from saguaro.models.packed_operations import PackedModel
from saguaro.models.torch_operations import TorchModel
from saguaro.plugins.native import build_library
from saguaro.plugins.packed_linear import C_SHIM, panel

LIBRARY = "model.so"
KERNELS = "kernels.so"
WEIGHTS = "weights.safetensors"


def can_compile() -> bool:
    """Whether there is the C++ compiler that ahead-of-time compilation needs."""
    return compiler() is not None


def compiler() -> str | None:
    return next((path for name in ("g++", "clang++") if (path := shutil.which(name))), None)


def write_eager(directory: Path, config: ModelConfig, weights: dict[str, torch.Tensor]) -> None:
    """Fused weights; a tied `lm_head.weight` is stored once."""
    kept = dict(weights)
    if config.tie_word_embeddings:
        del kept["lm_head.weight"]
    save_file(kept, directory / WEIGHTS)


def write_compiled(
    directory: Path,
    config: ModelConfig,
    weights: dict[str, torch.Tensor],
    *,
    max_batch_size: int,
    max_step: int,
    rows: int,
    threads: int,
) -> None:
    """Compile the architecture with its weights, packed for this CPU, into an AOTInductor library.

    Batch, step length and the cache rows in view stay dynamic, so that one library serves prompts, single
    tokens, verification and the draft's branches.
    """
    options: dict[str, object] = {"freezing": True, "cpp.threads": threads}
    model = TorchModel(config, weights, rows)
    build_library(compiler() or "g++", directory / KERNELS)
    if weights["model.norm.weight"].dtype == torch.float32:  # in bf16 the vendor's kernels use the matrix units
        model = PackedModel(config, weights, rows, panel=panel(directory / KERNELS), threads=threads)
        options["aot_inductor.custom_ops_to_c_shims"] = {torch.ops.saguaro.packed_linear.default: [C_SHIM]}
    with torch.no_grad(), _quiet():
        inputs, shapes = _example(config, weights["model.norm.weight"].dtype, max_batch_size, max_step, rows)
        program = torch.export.export(model.eval(), inputs, dynamic_shapes=shapes, strict=False)
        try:
            package = torch._inductor.aoti_compile_and_package(
                program, package_path=str(directory / "model.pt2"), inductor_configs=options
            )
            _keep_library(Path(package), directory / LIBRARY)
        except Exception as error:  # the compiler's own errors are of many types
            if _interrupted(error):
                raise KeyboardInterrupt from error
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise SaguaroError(
                f"torch could not compile the model ({lines[0]}); set build.enforce_eager: true to do without"
            ) from error


def _interrupted(error: BaseException | None) -> bool:
    """Whether the C++ compiler was ended by the Ctrl-C that is about to reach us too."""
    while error is not None:
        if isinstance(error, subprocess.CalledProcessError) and error.returncode in (-signal.SIGINT, 130):
            return True
        error = error.__cause__ or error.__context__
    return False


def _keep_library(package: Path, target: Path) -> None:
    """Of the package only the shared library is wanted: it holds the weights too."""
    with zipfile.ZipFile(package) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".so")]
        with archive.open(name) as source, open(target, "wb") as file:
            shutil.copyfileobj(source, file)
    package.unlink()


def _example(
    config: ModelConfig, dtype: torch.dtype, max_batch_size: int, max_step: int, rows: int
) -> tuple[tuple[object, ...], tuple[object, ...]]:
    """Inputs of some shape, and which of their axes may have others."""
    count, steps, used = min(2, max_batch_size), 6, 64
    shape = (max_batch_size, config.num_kv_heads, rows, config.head_dim)
    cache = [torch.zeros(shape, dtype=dtype)[:count] for _ in range(2 * config.num_layers)]
    inputs = (
        torch.zeros(count, steps, dtype=torch.int64),
        torch.zeros(count, steps, dtype=torch.int64),
        torch.ones(count, 1, steps, used, dtype=torch.bool),
        torch.zeros(count, dtype=torch.int64),
        cache,
    )
    batch = {0: torch.export.Dim("batch", min=1, max=max_batch_size)} if max_batch_size > 1 else {}
    step = torch.export.Dim("step", min=1, max=max_step)
    seen = torch.export.Dim("seen", min=2, max=rows - 1)
    shapes = (
        {**batch, 1: step},
        {**batch, 1: step},
        {**batch, 2: step, 3: seen},
        {**batch},
        [{**batch} for _ in cache],
    )
    return inputs, shapes


@contextlib.contextmanager
def _quiet():  # type: ignore[no-untyped-def]
    """The compiler's notes are not for people who build engines; its errors come as exceptions."""
    loggers = [logging.getLogger(name) for name in ("torch._inductor", "torch.export", "torch._dynamo")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
