"""Loading a TensorRT plan, and saying why when the library will not."""

from __future__ import annotations

import mmap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from saguaro.engine.tensorrt_library import library_log
from saguaro.errors import EngineError


def load_plan(trt: Any, plan: Path, built_with: Mapping[str, str], device: torch.device) -> tuple[Any, Any]:
    """The plan's `Runtime`, which has to outlive the engine, and its `ICudaEngine`.

    `built_with` is what the manifest says of the build. Raises EngineError when the library refuses the plan.
    """
    log = library_log(trt)
    log.clear()
    runtime = trt.Runtime(log)
    with plan.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        engine = runtime.deserialize_cuda_engine(mapped)
    if engine is None:
        reason = _mismatch(trt, built_with, device) or log.first_error or "it gave no reason"
        raise EngineError(
            f"{plan}: {trt.__name__} could not load this engine ({reason}); build it again for this machine"
        )
    return runtime, engine


def _mismatch(trt: Any, built_with: Mapping[str, str], device: torch.device) -> str:
    """How this machine differs from the one that the plan is for, empty where it is not known to."""
    found = []
    if (version := built_with.get(trt.__name__, trt.__version__)) != trt.__version__:
        found.append(f"it was built with {trt.__name__} {version}, and {trt.__version__} is installed")
    capability = "{}.{}".format(*torch.cuda.get_device_capability(device))
    built_for = built_with.get("compute_capability", capability)
    if capability not in built_for.split(", "):
        found.append(f"it was built for compute capability {built_for}, and this GPU has {capability}")
    return "; ".join(found)
