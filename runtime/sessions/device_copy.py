"""Between the host's memory and a device's, without the host waiting for the device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch


def on_device(values: np.ndarray | Sequence[Any], device: torch.device) -> torch.Tensor:
    """The host's numbers on `device`; a GPU's copy is queued from pinned memory, which torch keeps until it is done."""
    host = torch.from_numpy(np.asarray(values))
    return host.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else host


class Staged:
    """A tensor that is filled from the host again and again, each time when the device is done with what was there."""

    def __init__(self, shape: tuple[int, ...], device: torch.device):
        """`tensor`: of that shape, int64, on the device; on a CPU the host's own memory."""
        self._pinned = torch.zeros(shape, dtype=torch.int64, pin_memory=device.type == "cuda")
        self._values = self._pinned.numpy()
        self.tensor = self._pinned.to(device)

    def fill(self, values: Sequence[Any]) -> None:
        self._values[:] = values
        if self.tensor is not self._pinned:
            self.tensor.copy_(self._pinned, non_blocking=True)


class OnHost:
    """Tensors on their way to the host."""

    def __init__(self, *tensors: torch.Tensor):
        self._event: torch.cuda.Event | None = None
        self._tensors = tensors
        if tensors[0].device.type == "cuda":
            self._tensors = tuple(
                torch.empty(t.shape, dtype=t.dtype, pin_memory=True).copy_(t, non_blocking=True) for t in tensors
            )
            self._event = torch.cuda.Event()
            self._event.record()

    @property
    def on_its_way(self) -> bool:
        return self._event is not None

    def get(self) -> list[np.ndarray]:
        """The tensors' values; waits until they have arrived."""
        if self._event:
            self._event.synchronize()
        return [tensor.numpy() for tensor in self._tensors]
