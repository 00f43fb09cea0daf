"""The draft's depth loop in one native call: calling kernel.cpp, which `saguaro.plugins.native` compiles.

It exists for AOTInductor models on a CPU. Elsewhere the same loop is Python (`saguaro.runtime.sessions.rollout`),
which is also what it is tested against.
"""

from __future__ import annotations

import ctypes
from array import array

_FIELDS = 24  # of `struct Rollout`, eight bytes each


class RolloutKernel:
    """The kernel of a compiled library."""

    def __init__(self, library: ctypes.CDLL):
        self._call = library.saguaro_draft_rollout
        self._call.argtypes = [ctypes.c_void_p]

    def __call__(self, *fields: int) -> None:
        """Runs a rollout given by the fields of kernel.cpp's `struct Rollout`, in their order: numbers and addresses.

        Raises RuntimeError when the model reports an error (torch prints what it was).
        """
        if len(fields) != _FIELDS:
            raise TypeError(f"a rollout has {_FIELDS} fields, not {len(fields)}")
        arguments = array("q", fields)
        if self._call(arguments.buffer_info()[0]):
            raise RuntimeError("the compiled draft failed on this step")
