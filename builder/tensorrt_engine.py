"""The TensorRT backends: a plan for each model, with the weights inside it, beside it, or where they were."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from saguaro.builder.checkpoint import Checkpoint
from saguaro.builder.progress import Progress
from saguaro.builder.tensorrt.gpu import Gpu, find_gpu
from saguaro.engine.deployment import Build, Deployment
from saguaro.engine.manifest import ModelEntry
from saguaro.engine.tensorrt_library import library_name, load_library

PLAN = "model.plan"


def check_tensorrt(deployment: Deployment) -> None:
    """Raise ConfigError, before anything is done, when the library, the GPU or Triton is missing."""
    load_library(library_name(deployment.build.backend))
    for place in (deployment.placement.target, deployment.placement.draft):
        gpu = _gpu(deployment.build, place.device)
        if gpu is not None and deployment.build.plugin_attention:
            from saguaro.builder.tensorrt.plugin_operations import register_plugins

            register_plugins(gpu)


def built_with(build: Build, target: str, draft: str) -> dict[str, str]:
    """For the manifest: the library's version, and the compute capabilities that were built for, where they are known.
    `target` and `draft` are the models' devices."""
    library = library_name(build.backend)
    versions = {library: load_library(library).__version__}
    gpus = [gpu.compute_capability for device in (target, draft) if (gpu := _gpu(build, device))]
    if capabilities := build.compute_capability or list(dict.fromkeys(gpus)):
        versions["compute_capability"] = ", ".join(capabilities)
    return versions


def _gpu(build: Build, device: str) -> Gpu | None:
    """The GPU that the backend needs for building, if it does."""
    return find_gpu(device) if build.backend == "tensorrt" else None


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
            tensorrt=load_library(library_name(build.backend)),
            precision=build.precision,
            max_batch_size=build.max_batch_size,
            max_step=max_step,
            rows=entry.rows,
            load_weight=checkpoint.tensors.get if embedded else None,
            compute_capabilities=build.compute_capability,
            gpu=_gpu(build, entry.device),
            plugin_attention=build.plugin_attention,
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
