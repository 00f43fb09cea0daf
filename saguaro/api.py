"""`build`: the command line's `saguaro build` as a function."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from saguaro.builder.build import build_engine
from saguaro.builder.progress import Progress, silent
from saguaro.engine.deployment import Deployment
from saguaro.engine.deployment_file import load_deployment
from saguaro.errors import ConfigError


def build(
    config: str | Path | None = None,
    *,
    target: str | None = None,
    draft: str | None = None,
    output: str | Path,
    backend: str | None = None,
    precision: str | None = None,
    max_batch_size: int | None = None,
    max_seq_len: int | None = None,
    lookahead: int | None = None,
    budget: int | None = None,
    tree_nodes: int | None = None,
    verification: str | None = None,
    compute_capability: Sequence[str] | None = None,
    weights: str | None = None,
    attention: str | None = None,
    weights_by_reference: bool = False,
    enforce_eager: bool | None = None,
    progress: Progress = silent,
) -> Path:
    """Build an engine directory from a deployment file, or from two checkpoints; returns its path.

    Args:
        config: a deployment file. The other arguments, where given, take the place of its fields.
        target, draft: a local Hugging Face directory, or a hub id `org/name[@revision]`.
        output: the engine directory to write; an engine that is there is replaced once the new one is whole.
        backend: "torch", "tensorrt-rtx" or "tensorrt".
        precision: "fp32", "bf16", or with the TensorRT backends "fp16".
        max_batch_size, max_seq_len: what the engine's KV cache has room for, in sequences and in tokens.
        lookahead, budget, tree_nodes: K, B and N, see the deployment file.
        verification: "coupled" (the same tokens in every mode) or "rejection" (the same distribution, more accepted).
        compute_capability: GPUs to compile tensorrt-rtx plans for, such as ["8.9"]; none: those the library chooses.
        weights: "external" or "embedded", of TensorRT plans.
        attention: "plugin" (our kernels; the default of tensorrt) or "native" (the library's), of TensorRT plans.
        weights_by_reference: leave external weights where the checkpoint has them.
        enforce_eager: skip ahead-of-time compilation.
        progress: called with (stage, steps done, steps in all).

    Raises:
        ConfigError, CheckpointError, EngineError: bad input, one sentence; nothing is written.
        SaguaroError: a compiler failed.
    """
    base = load_deployment(Path(config)) if config is not None else None
    if base is None and (target is None or draft is None):
        raise ConfigError("a build needs a deployment file, or both target and draft; give the one that is missing")
    deployment = Deployment.from_options(
        base,
        target=target,
        draft=draft,
        backend=backend,
        precision=precision,
        max_batch_size=max_batch_size,
        max_seq_len=max_seq_len,
        lookahead=lookahead,
        budget=budget,
        tree_nodes=tree_nodes,
        verification=verification,
        compute_capability=list(compute_capability) if compute_capability is not None else None,
        weights=weights,
        attention=attention,
        enforce_eager=enforce_eager,
    )
    return build_engine(deployment, Path(output), by_reference=weights_by_reference, progress=progress)
