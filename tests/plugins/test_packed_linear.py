"""The CPU kernel against its reference, and that a row's result does not depend on the other rows."""

from __future__ import annotations

import ctypes
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from saguaro.plugins.native import build_library
from saguaro.plugins.packed_linear import pack, packed_linear, panel

Kernel = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("g++") or shutil.which("clang++")
    if compiler is None:
        pytest.skip("there is no C++ compiler")
    path = tmp_path_factory.mktemp("kernel") / "packed_linear.so"
    build_library(compiler, path)
    return path


@pytest.fixture(scope="module")
def kernel(library: Path) -> Kernel:
    """The C shim, called as compiled code calls it."""
    shim = ctypes.CDLL(str(library)).aoti_torch_cpu_packed_linear
    shim.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64, ctypes.c_void_p]
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    capsule = ctypes.pythonapi.PyCapsule_New
    capsule.restype, capsule.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]

    def call(x: torch.Tensor, weight: torch.Tensor, features: int, threads: int = 1) -> torch.Tensor:
        handles = torch._C._aoti.unsafe_alloc_void_ptrs_from_tensors([x, weight])
        result = ctypes.c_void_p()
        if shim(*[pointer(h, None) for h in handles], features, threads, ctypes.byref(result)):
            raise ValueError("the kernel refused its input")
        return torch._C._aoti.alloc_tensor_by_stealing_from_void_ptr(capsule(result, None, None))

    return call


@pytest.mark.parametrize("features", [1, 31, 32, 33, 640])
@pytest.mark.parametrize("rows", [1, 2, 5, 6, 7, 11, 12, 13, 25, 130])
def test_equals_the_reference(kernel: Kernel, library: Path, rows: int, features: int) -> None:
    torch.manual_seed(rows * 1000 + features)
    x, weight = torch.randn(rows, 96), torch.randn(features, 96)
    packed = pack(weight, panel(library))
    exact = (x.double() @ weight.double().T).float()
    torch.testing.assert_close(kernel(x, packed, features), exact, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(packed_linear(x, packed, features, 1), exact, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_row_does_not_depend_on_the_others(kernel: Kernel, library: Path, threads: int) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(40, 384), torch.randn(100, 384)
    packed = pack(weight, panel(library))
    alone = torch.cat([kernel(row, packed, 100) for row in x.split(1)])
    for rows in (2, 6, 12, 13, 24, 40):
        assert torch.equal(kernel(x[:rows].contiguous(), packed, 100, threads), alone[:rows])


def test_refuses_rows_that_are_not_contiguous(kernel: Kernel, library: Path) -> None:
    packed = pack(torch.randn(8, 16), panel(library))
    with pytest.raises(ValueError, match="refused"):
        kernel(torch.randn(16, 4).T, packed, 8)


def test_a_compiler_that_fails_says_why(tmp_path: Path) -> None:
    failing = tmp_path / "compiler"
    failing.write_text("#!/bin/sh\necho 'kernel.cpp: no such option' >&2\nexit 1\n")
    failing.chmod(0o755)
    with pytest.raises(RuntimeError, match="no such option"):
        build_library(str(failing), tmp_path / "out.so")
