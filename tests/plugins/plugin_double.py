"""A recording double of `tensorrt.plugin`: the few names that our registrations use.

What it demands of a registration (names and order of arguments, annotations, types of the values returned)
was read off NVIDIA's package (tensorrt-cu13-bindings 11.4, tensorrt_bindings/plugin) and the API pages
docs.nvidia.com/deeplearning/tensorrt/latest/_static/python-api/infer/tensorrt.plugin/. With that wheel on
the path the same tests run through the package itself.
"""

import inspect
import types
import typing

TYPES = {"FP32", "FP16", "BF16", "INT8", "INT32", "INT64", "BOOL"}
OPERATIONS = {
    "SUM": lambda a, b: a + b,
    "SUB": lambda a, b: a - b,
    "PROD": lambda a, b: a * b,
    "CEIL_DIV": lambda a, b: -(-a // b),
}


class Dimension:
    def __init__(self, value: int):
        self.value = value

    def get_constant_value(self) -> int:
        return self.value


def plugin_double() -> types.ModuleType:
    """The recording double of `tensorrt.plugin`."""
    module = types.ModuleType("tensorrt.plugin")
    module.registry, module.op = {}, types.SimpleNamespace()

    class SymInt32:
        _exprBuilder = None

        def __init__(self, value=None):
            self._expr = Dimension(value) if isinstance(value, int) else getattr(value, "_expr", value)

        def _op(self, kind, other):
            other = Dimension(other) if isinstance(other, int) else other._expr
            return type(self)(Dimension(OPERATIONS[kind](self._expr.value, other.value)))

        def __add__(self, other):
            return self._op("SUM", other)

        def __sub__(self, other):
            return self._op("SUB", other)

        def __mul__(self, other):
            return self._op("PROD", other)

    class ShapeExpr(SymInt32):
        pass

    class SymExprs(list):
        kind = SymInt32

        def __init__(self, length):
            super().__init__([None] * length)

        @classmethod
        def from_tuple(cls, items):
            made = cls(len(items))
            made[:] = [item if isinstance(item, cls.kind) else cls.kind(item) for item in items]
            return made

    class SymIntExprs(SymExprs):
        pass

    class ShapeExprs(SymExprs):
        kind = ShapeExpr

    class TensorDesc:
        def __init__(self, shape_expr=None, dtype=None):
            self.shape_expr, self.dtype, self._aliased_to = shape_expr, dtype, None

        def like(self):
            return TensorDesc(ShapeExprs.from_tuple(tuple(self.shape_expr)), self.dtype)

        def aliased(self):
            made = self.like()
            made._aliased_to = self
            return made

        def get_aliased(self):
            return self._aliased_to

    class KernelLaunchParams:
        FIELDS = ("grid_x", "grid_y", "grid_z", "block_x", "block_y", "block_z", "shared_mem")

        def __init__(self):
            for name in self.FIELDS:
                setattr(self, name, 0 if name == "shared_mem" else 1)

        def __setattr__(self, name, value):
            if name not in self.FIELDS:
                raise AttributeError(f"KernelLaunchParams has no attribute {name!r}")
            self.__dict__[name] = SymInt32(value)

    class AutoTuneCombination:
        def __init__(self, io_types=None, layouts=None, tactics=None):
            self.io_types = [part.strip() for part in io_types.split(",")]
            names = {name for part in self.io_types for name in part.replace("*", "|").split("|")}
            unknown = names - TYPES
            if unknown or layouts != "LINEAR":
                raise ValueError(f"unknown types {unknown} or layouts {layouts}")
            if any("|" in part and "*" in part for part in self.io_types):
                raise ValueError("a type has both | and *")
            if len({part.count("|") for part in self.io_types if "|" in part}) > 1:
                raise ValueError("dependent types of unequal number")
            self._tactics = tactics

    def cdiv(first, second):
        if isinstance(first, int) and isinstance(second, int):
            raise ValueError("Both arguments cannot be 'int's")
        return (ShapeExpr(first) if isinstance(first, int) else first)._op("CEIL_DIV", second)

    def call(namespace, name, kinds):
        """What `op.NAMESPACE.NAME` is: called with the layer's inputs, it gives what `add_plugin` takes."""
        tensors = [key for key, kind in kinds.items() if kind is TensorDesc]

        def with_inputs(*inputs, **attributes):
            given = {key: type(value) for key, value in attributes.items()}
            wanted = {key: kind for key, kind in kinds.items() if key not in tensors}
            if len(inputs) != len(tensors) or list(given.items()) != list(wanted.items()):
                raise ValueError(f"{name} takes {len(tensors)} tensors, then {wanted} in order, got {given}")
            plugin = types.SimpleNamespace(plugin_namespace=namespace, plugin_name=name, attrs=attributes)
            return lambda request=None: (list(inputs), [], plugin)

        return with_inputs

    def register(plugin_id):
        def decorate(function):
            if plugin_id in module.registry or plugin_id.count("::") != 1:
                raise ValueError(f"bad or repeated plugin id {plugin_id}")
            parameters = inspect.signature(function).parameters
            kinds = [p.annotation for p in parameters.values()]
            tensors = [kind is TensorDesc for kind in kinds]
            if sorted(tensors, reverse=True) != tensors:
                raise ValueError("tensors come before attributes")
            if any(kind not in (TensorDesc, int, float, str, bool, bytes) for kind in kinds):
                raise ValueError(f"every argument needs a supported annotation, got {kinds}")
            if any(p.default is not inspect.Parameter.empty for p in parameters.values()):
                raise ValueError("attributes have no defaults")
            returns = inspect.signature(function).return_annotation
            outputs = typing.get_args(returns) or (returns,)
            if any(kind is not TensorDesc for kind in outputs):
                raise ValueError(f"outputs must be annotated as TensorDesc, got {returns}")
            entry = types.SimpleNamespace(register_func=function, num_outputs=len(outputs), names=list(parameters))
            entry.autotune_func = entry.aot_impl_func = None
            module.registry[plugin_id] = entry
            namespace, name = plugin_id.split("::")
            if not hasattr(module.op, namespace):
                setattr(module.op, namespace, types.SimpleNamespace())
            kinds = {p.name: p.annotation for p in parameters.values()}
            setattr(getattr(module.op, namespace), name, call(namespace, name, kinds))
            return function

        return decorate

    def check(function, entry, last, returned):
        signature = inspect.signature(function)
        if list(signature.parameters) != entry.names + last:
            raise ValueError(f"arguments must be {entry.names + last}, got {list(signature.parameters)}")
        if typing.get_origin(signature.parameters["outputs"].annotation) is not tuple:
            raise ValueError("outputs must be annotated as a tuple")
        if typing.get_origin(signature.return_annotation) is not returned:
            raise ValueError(f"must be annotated to return a {returned}, got {signature.return_annotation}")

    def autotune(plugin_id):
        def decorate(function):
            check(function, module.registry[plugin_id], ["outputs"], list)
            module.registry[plugin_id].autotune_func = function
            return function

        return decorate

    def aot_impl(plugin_id):
        def decorate(function):
            check(function, module.registry[plugin_id], ["outputs", "tactic"], tuple)
            module.registry[plugin_id].aot_impl_func = function
            return function

        return decorate

    names = (
        SymInt32,
        ShapeExpr,
        SymIntExprs,
        ShapeExprs,
        TensorDesc,
        KernelLaunchParams,
        AutoTuneCombination,
    )
    for item in (*names, cdiv, register, autotune, aot_impl):
        setattr(module, item.__name__, item)
    return module
