"""The eager form's session on CUDA: packed masks, a KV cache in one piece, steps captured in CUDA graphs.

Not yet run on hardware. Its tests run the same code on the CPU, where nothing is captured: they check the
packed masks, the cache's layout and the row moves, but neither a capture nor the order of work on streams.

No call waits for the device: the host's numbers go through pinned memory, and logits are handed out as soon
as their computation is queued on the caller's stream.
"""

from __future__ import annotations

import logging
from collections import Counter, OrderedDict
from collections.abc import Callable
from threading import Lock
from typing import NamedTuple

import torch

from saguaro.models.config import ModelConfig
from saguaro.models.tree_operations import HEAD_SIZES, TREE_ROWS, TreeModel, pack_rows, padded_head_size
from saguaro.runtime.sessions.device_copy import on_device
from saguaro.runtime.sessions.masks import dense_mask
from saguaro.runtime.sessions.row_moves import move_rows
from saguaro.runtime.sessions.session import Step

CAPTURE_AT = 2  # uses of a shape: rounds repeat theirs, prompts seldom do
LONGEST_CAPTURED = 64  # tokens: longer steps are prompt chunks, which keep the GPU busy without a graph
MOST_GRAPHS = 64  # the one that was not used for the longest makes room

_log = logging.getLogger("saguaro.cuda")
_capturing = Lock()  # torch allows one capture at a time in a process


class Inputs(NamedTuple):
    """What changes from step to step of one shape."""

    tokens: torch.Tensor  # [n, T] int64
    positions: torch.Tensor  # [n, T] int64
    visible: torch.Tensor  # [n, T, R] bool
    bounds: torch.Tensor  # [2, n] int64: prefix lengths, first rows to write


Forward = Callable[[Inputs], torch.Tensor]


class CapturedStep:
    """`run` over tensors of its own, captured for steps of one shape; they are copied in, the logits out."""

    def __init__(
        self, run: Forward, inputs: Inputs, pool: torch.cuda._POOL_HANDLE, stream: torch.cuda.Stream
    ):
        """`stream` is not the current one; a graph's kernels keep its priority wherever they are replayed."""
        self.inputs = Inputs(*(tensor.clone() for tensor in inputs))
        self.graph = torch.cuda.CUDAGraph()
        current = torch.cuda.current_stream(stream.device)
        stream.wait_stream(current)
        with _capturing, torch.cuda.stream(stream):
            run(self.inputs)  # compiles kernels and sets workspaces aside, which a capture may not do
            # The other model's thread goes on allocating and waiting: only this one is restricted.
            self.graph.capture_begin(pool, capture_error_mode="thread_local")
            try:
                self.logits = run(self.inputs)
            finally:
                self.graph.capture_end()
        current.wait_stream(stream)

    def __call__(self, inputs: Inputs) -> torch.Tensor:
        for mine, given in zip(self.inputs, inputs, strict=True):
            mine.copy_(given, non_blocking=True)
        self.graph.replay()
        return self.logits.clone()  # the next replay, queued behind this copy, overwrites what was cloned


class CudaSession:
    """See `Session`. Runs on the caller's current stream, always the same one; on a CPU without graphs.

    The KV cache is `[layers * 2, slots, H_kv, S, D']`, keys before values; layers are views of it. D' is a
    head size that tree_attention has a kernel for: the model's own or the next larger, with zeros at the end.
    """

    def __init__(
        self,
        config: ModelConfig,
        weights: dict[str, torch.Tensor],
        *,
        dtype: torch.dtype,
        max_batch_size: int,
        rows: int,
        device: torch.device,
        capture: bool = True,
    ):
        """`weights` as `engine_weights(config)` names them, on `device`; their type is the cache's."""
        self.device, self.vocab_size = device, config.vocab_size
        self.max_batch_size, self.rows = max_batch_size, rows
        self.head_dim, size = config.head_dim, padded_head_size(config.head_dim)
        self.model = TreeModel(config, weights, rows)
        self.cache = torch.zeros(
            config.num_layers * 2, max_batch_size, config.num_kv_heads, rows, size, dtype=dtype, device=device
        )
        self._packed = size in HEAD_SIZES
        self._views: dict[tuple[int, int], list[torch.Tensor]] = {}
        self._uses: Counter[tuple[int, int, int]] = Counter()
        self._graphs: OrderedDict[tuple[int, int, int], CapturedStep] = OrderedDict()
        self._capture = capture and device.type == "cuda"
        if self._capture:
            self._pool = torch.cuda.graph_pool_handle()
            self._side = torch.cuda.Stream(device, priority=torch.cuda.current_stream(device).priority)

    @property
    def captured_shapes(self) -> list[tuple[int, int, int]]:
        """Sequences, tokens and rows after the prefix of the steps that run as a graph."""
        return list(self._graphs)

    def forward(self, step: Step) -> torch.Tensor:
        if not self._packed or step.visible.shape[-1] > TREE_ROWS:
            return self._dense(step)
        bounds = self._host([step.prefix, step.write_index])
        inputs = Inputs(step.tokens, step.positions, step.visible, bounds)
        if self._capture and step.first_slot == 0 and step.tokens.shape[1] <= LONGEST_CAPTURED:
            graph = self._graph(inputs)
            if graph is not None:
                return graph(inputs)
        return self._run(self._on_device(inputs), step.first_slot)

    def move_rows(self, slot: int, sources: list[int], target: int) -> None:
        move_rows(self.cache, slot, sources, target)

    def move_slot(self, source: int, target: int) -> None:
        self.cache[:, target].copy_(self.cache[:, source])

    def close(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()
        self._capture = False
        self._graphs.clear()
        self._views.clear()
        self.cache = self.cache.new_empty(0)
        del self.model

    def _run(self, inputs: Inputs, first_slot: int = 0) -> torch.Tensor:
        """The step operation by operation; `inputs` on the device."""
        prefix, write = inputs.bounds.unbind(0)
        cache, bits = self._slots(first_slot, inputs.tokens.shape[0]), pack_rows(inputs.visible)
        return self.model.tree_forward(inputs.tokens, inputs.positions, bits, prefix, write, cache)

    def _dense(self, step: Step) -> torch.Tensor:
        """For what tree_attention does not take: more rows after the prefix, larger heads."""
        cache = [layer[..., : self.head_dim] for layer in self._slots(step.first_slot, step.tokens.shape[0])]
        mask, write = dense_mask(step.prefix, step.visible), on_device(step.write_index, self.device)
        logits: torch.Tensor = self.model(step.tokens, step.positions, mask, write, cache)
        return logits

    def _graph(self, inputs: Inputs) -> CapturedStep | None:
        """The graph for steps of this shape, if there is one, or if it is time to make it and that works."""
        count, tokens, width = inputs.visible.shape
        key = (count, tokens, width)
        if key in self._graphs:
            self._graphs.move_to_end(key)
            return self._graphs[key]
        self._uses[key] += 1
        if self._uses[key] < CAPTURE_AT:
            return None
        if len(self._graphs) >= MOST_GRAPHS:
            torch.cuda.current_stream(self.device).synchronize()  # what is dropped may still be running
            dropped, _ = self._graphs.popitem(last=False)
            del self._uses[dropped]
        try:
            graph = CapturedStep(self._run, self._on_device(inputs), self._pool, self._side)
        except Exception as error:  # noqa: BLE001 - whatever it was, the same step can run without a graph
            _log.warning("steps run without CUDA graphs, more slowly: a capture failed (%s)", error)
            self._capture = False
            return None
        self._graphs[key] = graph
        return graph

    def _slots(self, first: int, count: int) -> list[torch.Tensor]:
        """Key and value of each layer, `[count, H_kv, S, D']` each."""
        if (first, count) not in self._views:
            self._views[first, count] = list(self.cache[:, first : first + count].unbind(0))
        return self._views[first, count]

    def _host(self, values: list[int] | list[list[int]]) -> torch.Tensor:
        """int64 in pinned memory, from which a copy needs no wait; torch keeps it until that is done."""
        return torch.tensor(values, dtype=torch.int64, pin_memory=self.device.type == "cuda")

    def _on_device(self, inputs: Inputs) -> Inputs:
        return Inputs(*(tensor.to(self.device, non_blocking=True) for tensor in inputs))
