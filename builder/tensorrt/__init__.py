"""The TensorRT backends: an architecture as a serialized plan, for `tensorrt_rtx` and `tensorrt` alike."""

from saguaro.builder.tensorrt.build import build_plan
from saguaro.engine.tensorrt_library import load_library

__all__ = ["build_plan", "load_library"]
