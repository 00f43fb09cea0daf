"""A linear layer for few rows on a CPU: verifying several tokens for little more than the price of one.

The compiled `torch` engine calls the C++ kernel (kernel.cpp) from its own code; in Python the operator is the plain
torch reference, which is what tests compare with.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch
import torch.nn.functional as F

# How compiled code declares the kernel.
C_SHIM = (
    "AOTITorchError aoti_torch_cpu_packed_linear(AtenTensorHandle x, AtenTensorHandle w, int64_t features, "
    "int64_t threads, AtenTensorHandle* result)"
)


def panel(library: Path) -> int:
    """Output features in one panel, as `library` (of `saguaro.plugins.native`) was compiled."""
    return int(ctypes.CDLL(str(library.absolute()), mode=ctypes.RTLD_GLOBAL).saguaro_panel())


def pack(weight: torch.Tensor, width: int) -> torch.Tensor:
    """Pack a float32 weight `[N, K]` into panels `[ceil(N / width), K, width]`, zeros after the last feature.

    `width` is what `panel` says of the library that will read it.
    """
    features, inputs = weight.shape
    panels = -(-features // width)
    padded = F.pad(weight, (0, 0, 0, panels * width - features))
    return padded.view(panels, width, inputs).permute(0, 2, 1).contiguous()


@torch.library.custom_op("saguaro::packed_linear", mutates_args=())
def packed_linear(x: torch.Tensor, weight: torch.Tensor, features: int, threads: int) -> torch.Tensor:
    """`x @ W.T` for x float32 `[M, K]` and W packed by `pack`: float32 `[M, features]`.

    Of the kernel a row's result does not depend on the other rows, to the bit. `threads` are for the kernel.
    """
    unpacked = weight.permute(0, 2, 1).reshape(-1, weight.shape[1])[:features]
    return x @ unpacked.T


@packed_linear.register_fake
def _(x: torch.Tensor, weight: torch.Tensor, features: int, threads: int) -> torch.Tensor:
    return x.new_empty(x.shape[0], features)
