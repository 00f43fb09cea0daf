"""The `tensorrt-rtx` backend: a plan for each model, with the weights inside it, beside it, or where they were."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from saguaro.builder.checkpoint import Checkpoint
from saguaro.builder.progress import Progress
from saguaro.engine.deployment import Build
from saguaro.engine.manifest import ModelEntry

PLAN = "model.plan"


def library() -> Any:
    """The TensorRT-RTX module; ConfigError where it is not installed."""
    from saguaro.builder.tensorrt.library import load_library

    return load_library("tensorrt_rtx")


def write_tensorrt(
    directory: Path,
    role: str,
    checkpoint: Checkpoint,
    build: Build,
    entry: ModelEntry,
    max_step: int,
    by_reference: bool,
    progress: Progress,
) -> None:
    """Compile the plan into `directory/role` and note in `entry` where its external weights are."""
    from saguaro.builder.tensorrt.build import build_plan

    embedded = build.weights == "embedded"
    with open(directory / role / PLAN, "wb") as file:
        build_plan(
            checkpoint.config,
            file.write,
            tensorrt=library(),
            precision=build.precision,
            max_batch_size=build.max_batch_size,
            max_step=max_step,
            rows=entry.rows,
            load_weight=checkpoint.tensors.get if embedded else None,
            compute_capabilities=build.compute_capability,
            progress=lambda stage, done, total: progress(f"{role}: {stage}", done, total),
        )
    if embedded:
        return
    for source in checkpoint.tensors.files():
        if by_reference:
            entry.weight_files.append(str(source.resolve()))
            continue
        kept = directory / role / source.name
        _link_or_copy(source.resolve(), kept)
        entry.weight_files.append(str(kept.relative_to(directory)))


def _link_or_copy(source: Path, target: Path) -> None:
    """A hard link where the file system allows, so that nothing is stored twice; else a copy."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
