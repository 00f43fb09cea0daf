"""Runs an AOTInductor library through its C interface.

torch's own loader keeps Python's global lock while the model runs, which would make target and draft take turns.
A call through ctypes gives the lock up, so the two really run at the same time.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import torch

from saguaro.errors import EngineError

KERNELS = "kernels.so"

_new_capsule = ctypes.pythonapi.PyCapsule_New
_new_capsule.restype, _new_capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
_open_capsule = ctypes.pythonapi.PyCapsule_GetPointer
_open_capsule.restype, _open_capsule.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]


Handles = ctypes.Array[ctypes.c_void_p]


def tensor_handles(tensors: list[torch.Tensor]) -> Handles:
    """Handles for torch's C interface: to be given to a model, which takes them over, or to `release`."""
    capsules = torch._C._aoti.unsafe_alloc_void_ptrs_from_tensors(tensors)
    return (ctypes.c_void_p * len(tensors))(*[_open_capsule(capsule, None) for capsule in capsules])


class CompiledLibrary:
    """One loaded model on the CPU. Not to be called from two threads at once."""

    def __init__(self, path: Path):
        """Load the library and the weights in it. Raises EngineError when this machine cannot."""
        try:  # the model's code refers to the kernels
            self.kernels = ctypes.CDLL(str(path.with_name(KERNELS).absolute()), mode=ctypes.RTLD_GLOBAL)
            self._library = ctypes.CDLL(str(path.absolute()))
        except OSError as error:
            raise EngineError(f"{path}: cannot be loaded ({error}); build the engine again") from error
        self.run_function = self._library.AOTInductorModelContainerRunSingleThreaded
        self.run_function.argtypes = [
            ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_void_p, ctypes.c_size_t,
            ctypes.c_void_p, ctypes.c_void_p,
        ]  # fmt: skip
        self.container = ctypes.c_void_p()
        create = self._library.AOTInductorModelContainerCreateWithDevice
        if create(ctypes.byref(self.container), ctypes.c_size_t(1), b"cpu", None):
            raise EngineError(f"{path}: the compiled model does not start; build the engine again")

    def __call__(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """The model's one output. Raises RuntimeError when the model reports an error (torch prints what it was)."""
        if not self.container:
            raise RuntimeError("the compiled model is closed")
        output = ctypes.c_void_p()
        # The model takes the input handles over, and hands the output's over to us.
        handles = tensor_handles(inputs)
        failed = self.run_function(self.container, handles, len(inputs), ctypes.byref(output), 1, None, None)
        if failed:
            raise RuntimeError("the compiled model failed on this step")
        tensor: torch.Tensor = torch._C._aoti.alloc_tensor_by_stealing_from_void_ptr(_new_capsule(output, None, None))
        return tensor

    def release(self, handles: Handles) -> None:
        for handle in handles:
            self.kernels.aoti_torch_delete_tensor_object(ctypes.c_void_p(handle))

    def close(self) -> None:
        """Give the weights' memory back. The library's code stays mapped, as unloading torch libraries is unsafe."""
        if self.container:
            self._library.AOTInductorModelContainerDelete(self.container)
            self.container = ctypes.c_void_p()
