"""The float types that a network can compute in, as torch and TensorRT call them."""

from __future__ import annotations

from typing import Any

import torch

from saguaro.engine.precision import PRECISIONS
from saguaro.errors import ConfigError


def torch_type(precision: str) -> torch.dtype:
    """The torch type of "fp16", "bf16" or "fp32". Raises ConfigError for any other name."""
    if precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise ConfigError(
            f"precision {precision!r} is unknown to the TensorRT backends; choose one of {known}"
        )
    return PRECISIONS[precision]


def tensorrt_type(trt: Any, dtype: torch.dtype) -> Any:
    """The `DataType` of the TensorRT module `trt` that holds the same numbers."""
    return {torch.float16: trt.float16, torch.bfloat16: trt.bfloat16, torch.float32: trt.float32}[dtype]
