"""An engine directory's models as sessions, each on its device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import load_file

from saguaro.engine.manifest import Manifest, ModelEntry
from saguaro.engine.precision import PRECISIONS
from saguaro.engine.tensorrt_library import library_name
from saguaro.errors import EngineError
from saguaro.models.config import ModelConfig
from saguaro.runtime.sessions.compiled_session import CompiledSession
from saguaro.runtime.sessions.cuda_session import CudaSession
from saguaro.runtime.sessions.session import Session
from saguaro.runtime.sessions.torch_session import TorchSession, eager_forward

LoadWeight = Callable[[str], torch.Tensor]


def session_device(manifest: Manifest, entry: ModelEntry) -> torch.device:
    """Where the model runs: as the deployment says; `auto` takes a GPU when the engine can use one."""
    has_gpu = torch.cuda.is_available()
    if entry.form == "compiled":
        return torch.device("cpu")
    if entry.device != "auto":
        device = torch.device(entry.device)
        if device.type == "cuda" and not has_gpu:
            raise EngineError(f"the engine is placed on {entry.device}, but this machine has no usable NVIDIA GPU")
        return device
    if entry.form == "plan" and not has_gpu:
        raise EngineError(
            f"this is a {manifest.backend} engine, which needs an NVIDIA GPU to run, and none is usable on this "
            "machine; build with --backend torch to run here"
        )
    return torch.device("cuda" if has_gpu else "cpu")


def load_session(directory: Path, role: str, manifest: Manifest, load_weight: LoadWeight | None) -> Session:
    """The target's or the draft's session. `load_weight` gives a plan's external weights by checkpoint name."""
    entry: ModelEntry = getattr(manifest, role)
    device, config, dtype = session_device(manifest, entry), entry.model_config, PRECISIONS[manifest.precision]
    if entry.form == "plan":
        from saguaro.runtime.sessions.tensorrt_session import TensorRTSession

        return TensorRTSession(
            directory / role / "model.plan", config, library=library_name(manifest.backend), rows=entry.rows,
            precision=manifest.precision, max_batch_size=manifest.max_batch_size, load_weight=load_weight,
            device=device, built_with=manifest.built_with,
        )  # fmt: skip
    if entry.form == "compiled":
        _check_machine(manifest)
        return CompiledSession(
            directory / role / "model.so", config, dtype=dtype, max_batch_size=manifest.max_batch_size, rows=entry.rows
        )
    weights = _eager_weights(directory / role, config, device)
    if device.type == "cuda":
        return CudaSession(
            config, weights, dtype=dtype, max_batch_size=manifest.max_batch_size, rows=entry.rows,
            device=device,
        )  # fmt: skip
    return TorchSession(
        eager_forward(config, weights, entry.rows), config, dtype=dtype, max_batch_size=manifest.max_batch_size,
        rows=entry.rows, device=device,
    )  # fmt: skip


def _eager_weights(directory: Path, config: ModelConfig, device: torch.device) -> dict[str, torch.Tensor]:
    weights = load_file(directory / "weights.safetensors", device=str(device))
    if config.tie_word_embeddings:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    return weights


def _check_machine(manifest: Manifest) -> None:
    """A compiled package holds machine code for one torch and one kind of CPU."""
    here = {"torch": torch.__version__, "cpu_capability": torch.backends.cpu.get_cpu_capability()}
    for name, value in here.items():
        if manifest.built_with.get(name) != value:
            raise EngineError(
                f"the engine was compiled with {name} {manifest.built_with.get(name)}, but this machine has {value}; "
                "build it again here, or build with enforce_eager"
            )

