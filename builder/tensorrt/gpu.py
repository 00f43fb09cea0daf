"""The GPU that a plan is built on, for the library that needs one to build."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from saguaro.errors import ConfigError


@dataclass(frozen=True)
class Gpu:
    """`capability`: compute capability times ten, as 89 for 8.9; `processors`: streaming multiprocessors."""

    index: int
    capability: int
    processors: int

    @property
    def compute_capability(self) -> str:
        """Such as "8.9"."""
        return f"{self.capability // 10}.{self.capability % 10}"


def find_gpu(device: str) -> Gpu:
    """The GPU that a model placed on `device` (auto, cuda or cuda:N) is built on. Raises ConfigError without one."""
    if not torch.cuda.is_available():
        raise ConfigError(
            "the backend tensorrt compiles on the GPU that it compiles for, and torch finds none here; build on the "
            "machine that will run the engine, or with the backend tensorrt-rtx, which needs no GPU"
        )
    wanted = torch.device("cuda" if device == "auto" else device)
    if wanted.type != "cuda":
        raise ConfigError(f"a model is placed on {device}, and the backend tensorrt runs on a GPU; place it on cuda")
    index = torch.cuda.current_device() if wanted.index is None else wanted.index
    if index >= torch.cuda.device_count():
        raise ConfigError(f"a model is placed on {device}, and this machine has {torch.cuda.device_count()} GPUs")
    major, minor = torch.cuda.get_device_capability(index)
    return Gpu(index, 10 * major + minor, torch.cuda.get_device_properties(index).multi_processor_count)


def current(gpu: Gpu | None) -> AbstractContextManager[object]:
    """Within it the GPU is this thread's current one."""
    return nullcontext() if gpu is None else torch.cuda.device(gpu.index)
