"""The `torch` backend's session of a model that was compiled for this CPU: its rollouts are one native call each."""

from __future__ import annotations

import ctypes
from array import array
from pathlib import Path

import torch

from saguaro.models.config import ModelConfig
from saguaro.plugins.draft_rollout import RolloutKernel
from saguaro.runtime.sessions.compiled_library import CompiledLibrary, Handles, tensor_handles
from saguaro.runtime.sessions.rollout import Rollout
from saguaro.runtime.sessions.torch_session import TorchSession


class CompiledSession(TorchSession):
    """See `Session` and `RollingSession`. From the first depth of a rollout to the last no interpreter is needed, so
    that the target's thread and the draft's do not wait for each other's lock."""

    def __init__(self, path: Path, config: ModelConfig, *, dtype: torch.dtype, max_batch_size: int, rows: int):
        self._model = CompiledLibrary(path)
        super().__init__(
            self._model, config, dtype=dtype, max_batch_size=max_batch_size, rows=rows, device=torch.device("cpu")
        )
        self._kernel = RolloutKernel(self._model.kernels)
        self._run = ctypes.cast(self._model.run_function, ctypes.c_void_p).value or 0
        self._handles: dict[tuple[int, int], Handles] = {}

    def roll_out(self, rollout: Rollout) -> None:
        step = rollout.step
        count, width = step.tokens.shape
        noise = [
            (one.rows.data_ptr(), one.first, one.rows.stride(0)) if one else (0, 0, 0) for one in rollout.noise
        ]
        pointers, firsts, strides = zip(*noise, strict=True)
        # Plain arrays: after a forward pass the caches are cold, and what numpy does around an array takes longer then.
        lists = array("q", [*rollout.widths, *step.prefix, *step.write_index, *pointers, *firsts, *strides])
        scales = array("f", [one.scale if one else 1.0 for one in rollout.noise])
        tokens, positions, visible = step.tokens.contiguous(), step.positions.contiguous(), step.visible.contiguous()
        handles = self._cache_handles(step.first_slot, count)
        widths, found, cells = lists.buffer_info()[0], rollout.memory.buffer_info()[0], rollout.tokens.size
        prefix = widths + 8 * len(rollout.widths)
        if rollout.meanwhile:
            rollout.meanwhile()
        self._kernel(
            self._run, self._model.container.value or 0, ctypes.addressof(handles), len(handles),
            count, len(rollout.widths), width, step.visible.shape[2], rollout.candidates, rollout.vocab_size,
            widths, tokens.data_ptr(), positions.data_ptr(), visible.data_ptr(),
            *range(prefix, prefix + 40 * count, 8 * count), scales.buffer_info()[0],
            found, found + 8 * cells, rollout.progress.values.buffer_info()[0],
            found + 8 * rollout.timed,
        )  # fmt: skip

    def _cache_handles(self, first: int, count: int) -> Handles:
        if (first, count) not in self._handles:
            self._handles[first, count] = tensor_handles(self._slots(first, count))
        return self._handles[first, count]

    def close(self) -> None:
        for handles in self._handles.values():
            self._model.release(handles)
        self._handles.clear()
        self._model.close()
        super().close()
