"""The CPU kernels that are C++: compiled for this machine when an engine is built, as one library beside the model."""

from __future__ import annotations

import subprocess
from pathlib import Path

import torch

SOURCES = [Path(__file__).parent / name / "kernel.cpp" for name in ("packed_linear", "draft_rollout")]
OPTIONS = ("-O3", "-march=native", "-std=c++17", "-shared", "-fPIC", "-fopenmp")


def build_library(compiler: str, output: Path) -> None:
    """Compile the kernels into the shared library `output`. Raises RuntimeError with the first error."""
    home = Path(torch.__file__).parent
    paths = [f"-I{home / 'include'}", f"-L{home / 'lib'}"]
    command = [compiler, *OPTIONS, *paths, *map(str, SOURCES), "-ltorch_cpu", "-o", str(output)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(
            result.stderr.strip().splitlines()[0] if result.stderr.strip() else "the compiler failed"
        )
