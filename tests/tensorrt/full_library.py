"""Full TensorRT played by TensorRT-RTX, whose networks are the same but for plugins; those are recorded.

Written against what NVIDIA publishes: python/src/infer/pyGraph.cpp of github.com/NVIDIA/TensorRT for `add_plugin`
(a function as `tensorrt.plugin.op` makes it, called with a creation request, and `aot`), and the signatures of
tensorrt-cu13-bindings 11.4, whose builder has no compute capabilities to choose. `tensorrt.plugin` is NVIDIA's own
package where that wheel is installed, else a double (tests/plugins/tensorrt_double.py). An output of a plugin is an
input of the network that no one sees.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType, SimpleNamespace
from typing import Any

import torch

from tests.plugins import tensorrt_double as double
from tests.tensorrt.plugin_semantics import PLUGINS

# Of the double of the compiled part, what TensorRT-RTX's own part plays better.
REAL = {"DataType", "ITensor", "Dims", "Logger", "TensorFormat"}


@dataclass
class Call:
    """One plugin layer."""

    plugin: str
    attributes: dict[str, Any]
    inputs: list[Any]
    outputs: list[Any]

    def descriptions(self) -> list[Any]:
        """Of its inputs, with dynamic axes of -1."""
        describe = sys.modules["tensorrt.plugin"].TensorDesc
        return [describe(double.dimensions(tuple(tensor.shape)), tensor.dtype) for tensor in self.inputs]

    def described(self) -> tuple[Any, ...]:
        """What the registration says of its outputs."""
        made = double.registry()[self.plugin].register_func(*self.descriptions(), **self.attributes)
        return made if isinstance(made, tuple) else (made,)

    def kernels(self) -> Iterator[tuple[str, str]]:
        """Name and PTX for every tactic: what TensorRT would put into the plan."""
        entry, inputs, outputs = double.registry()[self.plugin], self.descriptions(), self.described()
        values = self.attributes.values()
        tuned = entry.autotune_func(*inputs, *values, outputs)
        for tactic in tuned[0]._tactics or [0]:
            yield entry.aot_impl_func(*inputs, *values, outputs, tactic)[:2]


class FullNetwork:
    """An `INetworkDefinition` with `add_plugin`."""

    def __init__(self, network: Any) -> None:
        self._network = network
        self.calls: list[Call] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._network, name)

    def add_plugin(self, func: Callable[[Any], tuple[list[Any], list[Any], Any]], aot: bool) -> Any:
        assert aot, "a plugin with Python at run time"
        requests = sys.modules["tensorrt"].QuickPluginCreationRequest
        inputs, shape_inputs, plugin = func(requests.STRICT_AOT)
        assert shape_inputs == []
        call = Call(f"{plugin.plugin_namespace}::{plugin.plugin_name}", dict(plugin.attrs), inputs, [])
        for index, made in enumerate(call.described()):
            shape = tuple(double.value(size) for size in made.shape_expr)
            name = f"plugin.{len(self.calls)}.{index}"
            call.outputs.append(self._network.add_input(name, made.dtype, shape))
        if hasattr(plugin, "get_output_data_types"):  # NVIDIA's class: TensorRT asks it, before it knows any shape
            types, ranks = [tensor.dtype for tensor in inputs], [len(tensor.shape) for tensor in inputs]
            assert plugin.get_output_data_types(types, ranks) == [tensor.dtype for tensor in call.outputs]
        self.calls.append(call)
        return SimpleNamespace(get_output=call.outputs.__getitem__, num_outputs=len(call.outputs))

    @property
    def num_inputs(self) -> int:
        return len(self._inputs())

    def get_input(self, index: int) -> Any:
        return self._inputs()[index]

    def compute(self, name: str, values: dict[str, torch.Tensor]) -> torch.Tensor:
        """The value of a plugin's output."""
        call = next(call for call in self.calls if name in [tensor.name for tensor in call.outputs])
        results = PLUGINS[call.plugin](*(values[tensor.name] for tensor in call.inputs), **call.attributes)
        return dict(zip((tensor.name for tensor in call.outputs), results, strict=True))[name]

    def _inputs(self) -> list[Any]:
        given = [self._network.get_input(index) for index in range(self._network.num_inputs)]
        return [tensor for tensor in given if not tensor.name.startswith("plugin.")]


class Settings:
    """`IBuilderConfig`, with no more than our build uses."""

    __slots__ = ("profiles", "progress_monitor")

    def __init__(self) -> None:
        self.profiles: list[Any] = []

    def add_optimization_profile(self, profile: Any) -> int:
        self.profiles.append(profile)
        return len(self.profiles) - 1


def full_tensorrt() -> ModuleType:
    """The module `tensorrt`."""
    import tensorrt_rtx as rtx

    class Builder:
        built: Any = None  # the last network, and its settings

        def __init__(self, log: Any) -> None:
            self._builder = rtx.Builder(log)

        def create_network(self, flags: int = 0) -> FullNetwork:
            return FullNetwork(self._builder.create_network(flags))

        def create_builder_config(self) -> Settings:
            return Settings()

        def create_optimization_profile(self) -> Any:
            return self._builder.create_optimization_profile()

        def build_serialized_network_to_stream(self, network: FullNetwork, config: Settings, writer: Any) -> bool:
            """The "plan" is the inputs' names and the plugins' kernels."""
            Builder.built = network, config
            for index in range(network.num_inputs):
                writer.write(f"{network.get_input(index).name}\n".encode())
            for call in network.calls:
                for name, ptx in call.kernels():
                    writer.write(f"{call.plugin} {name}\n{ptx}\n".encode())
            return True

    module = ModuleType("tensorrt")
    module.__dict__.update({name: value for name, value in vars(rtx).items() if not name.startswith("__")})
    known = {name: value for name, value in vars(double.native_module()).items() if not name.startswith("__")}
    module.__dict__.update({n: v for n, v in known.items() if n not in REAL and not isinstance(v, double.DataType)})
    del module.ComputeCapability  # type: ignore[attr-defined]
    module.Builder = Builder  # type: ignore[attr-defined]
    module.__version__ = "11.4.0"  # type: ignore[attr-defined]
    return module


@contextmanager
def installed() -> Iterator[ModuleType]:
    """Within it `import tensorrt` gives the double."""

    def modules() -> dict[str, Any]:
        return {name: sys.modules[name] for name in list(sys.modules) if name.split(".")[0] == "tensorrt"}

    before = modules()
    for name in before:
        del sys.modules[name]
    module = full_tensorrt()
    try:
        double.install(module)
        yield module
    finally:
        for name in modules():
            del sys.modules[name]
        sys.modules.update(before)
