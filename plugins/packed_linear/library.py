"""Compiling and opening the kernel's shared library."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import torch

SOURCE = Path(__file__).with_name("kernel.cpp")
OPTIONS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-fopenmp")


def build_library(compiler: str, output: Path) -> None:
    """Compile the kernel for this CPU into the shared library `output`. Raises RuntimeError with the first error."""
    home = Path(torch.__file__).parent
    paths = [f"-I{home / 'include'}", f"-L{home / 'lib'}"]
    command = [compiler, *OPTIONS, *paths, str(SOURCE), "-ltorch_cpu", "-o", str(output)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(
            result.stderr.strip().splitlines()[0] if result.stderr.strip() else "the compiler failed"
        )


def panel(library: Path) -> int:
    """Output features in one panel, as the library was compiled."""
    return int(ctypes.CDLL(str(library.absolute()), mode=ctypes.RTLD_GLOBAL).saguaro_panel())
