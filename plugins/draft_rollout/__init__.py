"""The draft's depth loop in one native call: calling kernel.cpp, which `saguaro.plugins.native` compiles.

It exists for AOTInductor models on a CPU. Elsewhere the same loop is Python (`saguaro.runtime.sessions.rollout`),
which is also what it is tested against.
"""

from __future__ import annotations

import ctypes

_POINTERS = ("run", "container", "cache")
_SIZES = ("caches", "count", "depths", "width", "rows", "candidates", "vocabulary")
_ARRAYS = (
    "widths", "tokens", "positions", "visible", "prefix", "write", "noise", "noise_position", "noise_width", "scale",
    "best_tokens", "best_scores", "control", "times",
)  # fmt: skip


class RolloutArguments(ctypes.Structure):
    """`struct Rollout` of kernel.cpp, which says what each field is."""

    _fields_ = [
        *((name, ctypes.c_void_p) for name in _POINTERS),
        *((name, ctypes.c_int64) for name in _SIZES),
        *((name, ctypes.c_void_p) for name in _ARRAYS),
    ]


class RolloutKernel:
    """The kernel of a compiled library."""

    def __init__(self, library: ctypes.CDLL):
        self._call = library.saguaro_draft_rollout
        self._call.argtypes = [ctypes.c_void_p]

    def __call__(self, arguments: RolloutArguments) -> None:
        """Raises RuntimeError when the model reports an error (torch prints what it was)."""
        if self._call(ctypes.byref(arguments)):
            raise RuntimeError("the compiled draft failed on this step")
