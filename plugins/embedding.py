"""What the plugins' TensorRT registrations share: a Triton kernel as PTX in the form `aot_impl` returns.

TensorRT's quickly deployable plugins (`tensorrt.plugin`, TensorRT 10.7 and later) take one kernel each, as
PTX, whose parameters are the input tensors, then extra 32-bit integers, then the output tensors. So tree
attention and tree acceptance, which are two kernels, are two plugins each. An engine runs no Python.

Not run on hardware: the registrations were exercised without TensorRT's library (how, says
tests/plugins/tensorrt_double.py) and the PTX was assembled, but no engine with them was built or run.
"""

import warnings
from functools import lru_cache

from .variants import Binary, Variant, compile_variant, without_scratch_parameters

NAMESPACE = "saguaro"
TRITON_TYPES = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16"}  # by the names of trt.DataType
TENSORRT_NAMES = {"fp32": "FP32", "fp16": "FP16", "bf16": "BF16"}  # as autotune combinations spell them


class Target:
    """The GPU that TensorRT builds for: plugins are registered once in a process, which may build for several."""

    capability = 0  # compute capability times ten


_target = Target()


def register_all(capability: int | None = None) -> list[str]:
    """Registers every plugin with `tensorrt.plugin`, once a process, and returns their ids.

    Args:
        capability: compute capability times ten (89 for 8.9) that the kernels of engines built from now on
            are compiled for; by default that of the current CUDA device.

    Raises:
        ModuleNotFoundError: without TensorRT.
        RuntimeError: no capability given and no CUDA device.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the module announces itself as experimental
        import tensorrt
        import tensorrt.plugin as trtp

    _target.capability = current_capability() if capability is None else capability
    return _register(tensorrt, trtp)


@lru_cache
def _register(tensorrt, trtp) -> list[str]:
    from .kv_compact.tensorrt import register as register_compact
    from .tree_accept.tensorrt import register as register_accept
    from .tree_attention.tensorrt import register as register_attention

    registered = []
    for register in (register_attention, register_accept, register_compact):
        registered += register(tensorrt, trtp, _target)
    return registered


def current_capability() -> int:
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("no CUDA device to compile for: name a compute capability, such as 89")
    major, minor = torch.cuda.get_device_capability()
    return 10 * major + minor


def triton_type(dtype) -> str:
    """ "fp16" from trt.DataType.HALF, and so on."""
    if dtype.name not in TRITON_TYPES:
        raise ValueError(f"the plugins compute in {sorted(TRITON_TYPES)}, got {dtype.name}")
    return TRITON_TYPES[dtype.name]


def implementation(trtp, variant: Variant, target: Target, grid: tuple, integers: list) -> tuple:
    """What `aot_impl` returns: the kernel's name, its PTX, launch parameters and extra arguments.

    `grid` and `integers` hold ints or symbolic expressions; the integers are in the kernel's order.
    """
    binary = portable(variant, target.capability)
    launch = trtp.KernelLaunchParams()
    launch.grid_x, launch.grid_y, launch.grid_z = (*grid, 1, 1)[:3]
    launch.block_x = binary.warps * 32
    launch.shared_mem = binary.shared_bytes
    extra = trtp.SymIntExprs(len(integers))
    for i, value in enumerate(integers):
        extra[i] = value if isinstance(value, trtp.SymInt32) else trtp.SymInt32(value)
    return binary.name, without_scratch_parameters(binary, len(variant.types)), launch, extra


def portable(variant: Variant, capability: int) -> Binary:
    """PTX of the oldest version that has the target, so that older drivers can load it."""
    version = 87 if capability >= 120 else 86 if capability >= 100 else 80
    return compile_variant(variant, capability, ptx_version=version)
