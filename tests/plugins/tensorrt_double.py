"""A stand-in for TensorRT, so that the plugins' registrations can run without its library.

`install()` puts two modules in place:

- `tensorrt`: a double of the compiled part, as small as `tensorrt.plugin` allows: enums, empty base classes
  and dimension expressions that compute with integers.
- `tensorrt.plugin`: NVIDIA's own Python code out of the `tensorrt-cu13-bindings` wheel where that is
  installed (the wheel's compiled part needs libnvinfer, its plugin package is plain Python); otherwise the
  recording double of plugin_double.py.
"""

import enum
import importlib.util
import operator
import sys
import types

import numpy as np

from .plugin_double import plugin_double


class DataType(enum.Enum):
    FLOAT = FP32 = 0
    HALF = FP16 = 1
    INT8 = 2
    INT32 = 3
    BOOL = 4
    UINT8 = 5
    FP8 = 6
    BF16 = 7
    INT64 = 8
    INT4 = 9
    FP4 = 10
    E8M0 = 11


class DimensionOperation(enum.Enum):
    SUM, PROD, MAX, MIN, SUB, EQUAL, LESS, FLOOR_DIV, CEIL_DIV = range(9)


OPERATIONS = {
    "SUM": operator.add, "PROD": operator.mul, "MAX": max, "MIN": min, "SUB": operator.sub,
    "EQUAL": lambda a, b: int(a == b), "LESS": lambda a, b: int(a < b), "FLOOR_DIV": operator.floordiv,
    "CEIL_DIV": lambda a, b: -(-a // b),
}  # fmt: skip


class IDimensionExpr:
    """A dimension that is a known integer, where TensorRT's may depend on a profile."""

    def __init__(self, value: int):
        self.value = value

    def is_constant(self) -> bool:
        return True

    def get_constant_value(self) -> int:
        return self.value


class ExprBuilder:
    def constant(self, value):
        return IDimensionExpr(value)

    def operation(self, kind, a, b):
        return IDimensionExpr(OPERATIONS[kind.name](a.value, b.value))


class PluginField:
    """An attribute of a plugin; its data is read as an array, whatever it was made from."""

    def __init__(self, name: str, data, kind):
        self.name, self.type = name, kind
        self.data = np.frombuffer(data, dtype=np.uint8) if isinstance(data, bytes) else data


def native_module() -> types.ModuleType:
    """The double of the compiled `tensorrt`, with what its plugin package touches on import and in use."""
    module = types.ModuleType("tensorrt")
    module.DataType, module.DimensionOperation, module.IDimensionExpr = (
        DataType,
        DimensionOperation,
        IDimensionExpr,
    )
    same = ("int8", "int32", "bool", "uint8", "fp8", "int64", "int4", "fp4", "e8m0")
    aliases = {name: name.upper() for name in same}
    aliases |= {"float32": "FLOAT", "float16": "HALF", "bfloat16": "BF16"}
    for name, member in aliases.items():
        setattr(module, name, DataType[member])
    bases = (
        "ISymExpr ISymExprs IPluginV3 IPluginV3QuickCore IPluginV3QuickBuild IPluginV3QuickRuntime "
        "IPluginV3QuickAOTBuild IPluginCreatorV3Quick ITensor PluginTensorDesc DynamicPluginTensorDesc "
        "IExprBuilder DimsExprs"
    )
    for name in bases.split():
        setattr(module, name, type(name, (), {"__init__": lambda self, *a, **k: None}))
    members = {
        "TensorFormat": "LINEAR CHW2 HWC8 CHW4 CHW16 CHW32 DHWC8 CDHW32 HWC DLA_LINEAR DLA_HWC4 HWC16 DHWC",
        "PluginFieldType": "FLOAT16 FLOAT32 FLOAT64 INT8 INT16 INT32 INT64 CHAR DIMS BF16 FP8 INT4 UNKNOWN",
        "PluginArgType": "INT",
        "PluginArgDataType": "INT8 INT16 INT32",
        "QuickPluginCreationRequest": "UNKNOWN PREFER_JIT PREFER_AOT STRICT_JIT STRICT_AOT",
        "TensorRTPhase": "BUILD RUNTIME",
    }
    for name, values in members.items():
        setattr(module, name, enum.Enum(name, values))
    module.Dims = type("Dims", (tuple,), {"MAX_DIMS": 8})
    module.PluginField = PluginField
    module.PluginFieldCollection = list

    class Registry:
        """Takes a creator and gives it back, as the plugin registry does."""

        creators: dict = {}  # noqa: RUF012

        def register_creator(self, creator, namespace):
            self.creators[creator.name, namespace] = creator

        def get_creator(self, name, version, namespace):
            return self.creators[name, namespace]

    module.get_plugin_registry = Registry

    class Logger:
        WARNING = 1

        def log(self, *arguments):
            pass

    module.Logger = Logger
    return module


def install(native: types.ModuleType | None = None) -> str:
    """Puts the modules in place and says which plugin package it is: "nvidia" or "double"."""
    native = native or native_module()
    sys.modules["tensorrt"] = native
    found = importlib.util.find_spec("tensorrt_bindings")
    if found is not None:
        folder = found.submodule_search_locations[0] + "/plugin"
        spec = importlib.util.spec_from_file_location(
            "tensorrt.plugin", folder + "/__init__.py", submodule_search_locations=[folder]
        )
        native.__path__ = []
        native.plugin = sys.modules["tensorrt.plugin"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(native.plugin)
        kind = "nvidia"
    else:
        native.plugin = sys.modules["tensorrt.plugin"] = plugin_double()
        kind = "double"
    return kind


def registry() -> dict:
    """Plugin id -> what was registered: register_func, autotune_func, aot_impl_func, and more."""
    if hasattr(sys.modules["tensorrt.plugin"], "registry"):
        return sys.modules["tensorrt.plugin"].registry
    return sys.modules["tensorrt.plugin._lib"].QDP_REGISTRY


def dimensions(sizes) -> object:
    """Shape expressions of known sizes; NVIDIA's classes find their builder in a class attribute."""
    plugin = sys.modules["tensorrt.plugin"]
    base = next(c for c in plugin.ShapeExpr.__mro__ if "_exprBuilder" in vars(c))
    base._exprBuilder = ExprBuilder()
    return plugin.ShapeExprs.from_tuple(tuple(sizes))


def value(expression) -> int:
    return expression._expr.get_constant_value()
