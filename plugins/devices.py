"""Where the tensors of a plugin's call may lie."""

from collections.abc import Mapping

import torch


def check_devices(tensors: Mapping[str, torch.Tensor]) -> None:
    """Raises ValueError unless all are on one device, and on one that the plugins run on."""
    first, *_ = tensors
    device = tensors[first].device
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"{first} is on {device}, where no plugin runs: move it to a CPU or a CUDA GPU")
    for name, tensor in tensors.items():
        if tensor.device != device:
            raise ValueError(f"{name} is on {tensor.device} and {first} on {device}: use one device")
