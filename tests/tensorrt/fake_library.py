"""TensorRT's runtime played by the interpreter on the CPU, strict about addresses and shapes."""

from __future__ import annotations

import ctypes
import math
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

from tests.tensorrt.models import Network


class Engine:
    """`ICudaEngine` of a network with one profile for each longest step in `steps`."""

    def __init__(self, trt: Any, network: Network, max_batch_size: int, steps: list[int]) -> None:
        self.trt, self.network, self.max_batch_size, self.steps = trt, network, max_batch_size, steps
        self.tensors = {**network.inputs(), **network.outputs()}
        self.num_optimization_profiles = len(steps)
        self.num_io_tensors = len(self.tensors)

    def get_tensor_name(self, index: int) -> str:
        return list(self.tensors)[index]

    def get_tensor_mode(self, name: str) -> Any:
        mode = self.trt.TensorIOMode
        return mode.INPUT if name in self.network.inputs() else mode.OUTPUT

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert name == "input_ids"
        longest = self.steps[profile]
        return [(1, 1), (1, longest), (self.max_batch_size, longest)]

    def create_execution_context(self) -> Context:
        return Context(self)


class Context:
    """`IExecutionContext`. It knows nothing of tensors but their addresses and the shapes it was told."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.profile = 0
        self.shapes: dict[str, tuple[int, ...]] = {}
        self.addresses: dict[str, int] = {}

    def set_optimization_profile_async(self, profile: int, stream: int) -> bool:
        self.profile = profile
        self.shapes = {name: shape for name, shape in self.shapes.items() if name.startswith("weights.")}
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        said = tuple(self.engine.tensors[name].shape)
        assert len(said) == len(shape)
        assert all(want in (-1, size) for want, size in zip(said, shape, strict=True)), (name, shape)
        self.shapes[name] = shape
        return True

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        batch, step = self.shapes["input_ids"]
        assert batch <= self.engine.max_batch_size
        assert step <= self.engine.steps[self.profile]
        assert set(self.addresses) == set(self.engine.tensors)
        for name, address in self.addresses.items():
            assert not name.startswith("past_") or self.addresses[name.replace("past", "present")] == address
        given = {name: self.memory(name, self.shapes[name]) for name in self.engine.network.inputs()}
        logits = self.engine.network.interpreter.run(given)["logits"]
        self.memory("logits", tuple(logits.shape)).copy_(logits)
        return True

    def memory(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """What lies at the tensor's address."""
        dtype = self.engine.network.interpreter.types[self.engine.tensors[name].dtype]
        size = math.prod(shape) * dtype.itemsize
        buffer = (ctypes.c_char * size).from_address(self.addresses[name])
        return torch.frombuffer(buffer, dtype=dtype).view(shape)


def library(trt: Any, engine: Engine | None) -> Any:
    """A module in whose runtime every plan is `engine`."""
    runtime = SimpleNamespace(deserialize_cuda_engine=lambda plan: engine)
    module: Any = ModuleType("fake_tensorrt")
    module.Runtime = lambda log: runtime
    module.__version__ = "10.15.1"
    module.ILogger, module.TensorIOMode = trt.ILogger, trt.TensorIOMode
    return module


class Stream:
    """In place of a `torch.cuda.Stream`, which a CPU does not have."""

    cuda_stream = 7

    def synchronize(self) -> None:
        pass
