"""The TensorRT backends' session: a plan on an NVIDIA GPU, with torch for device memory and streams.

Not yet run on hardware. Its tests put the test-side interpreter in the library's place, which checks the
bindings, the masks and the cache's layout, but neither TensorRT's runtime nor the order of work on CUDA
streams.

Everything runs on the caller's current device and stream, always the same ones: the steps, the row moves beside
them, and what the caller does with the logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from saguaro.engine.precision import PRECISIONS
from saguaro.engine.tensorrt_library import load_library
from saguaro.errors import ConfigError, EngineError
from saguaro.models.config import ModelConfig
from saguaro.models.tree_operations import pack_rows
from saguaro.models.weights import engine_weights
from saguaro.runtime.sessions.device_copy import on_device
from saguaro.runtime.sessions.masks import check_step, dense_mask
from saguaro.runtime.sessions.row_moves import move_rows
from saguaro.runtime.sessions.session import Step
from saguaro.runtime.sessions.tensorrt_plan import load_plan

LoadWeight = Callable[[str], torch.Tensor]


class TensorRTSession:
    """See `Session`. The KV cache is one tensor `[layers * 2, slots, H_kv, S, D]`, keys before values.

    The masks are dense, or packed where the plan has our attention plugin in it, which its inputs tell.

    `plan` is what `saguaro.builder.tensorrt.build_plan` wrote for `config`, `precision`, `rows` and
    `max_batch_size`, and `library` is the module that built it. `load_weight` gives a checkpoint tensor by
    its name; only a plan with external weights needs it. `built_with` is the manifest's. Raises EngineError
    without a GPU or the library, for a plan that the library refuses, and for weights that are missing or have
    the wrong shape.
    """

    _runtime: Any  # has to outlive the engine
    _engine: Any
    _context: Any

    def __init__(
        self,
        plan: Path,
        config: ModelConfig,
        *,
        library: str,
        precision: str,
        rows: int,
        max_batch_size: int,
        load_weight: LoadWeight | None,
        device: torch.device,
        built_with: Mapping[str, str] | None = None,
    ) -> None:
        if not torch.cuda.is_available():
            raise EngineError(
                f"{plan}: a TensorRT engine runs on an NVIDIA GPU and torch finds none here; "
                "load it on a machine with one, or build the pair with the backend torch"
            )
        try:
            self._trt = load_library(library)
        except ConfigError as error:
            raise EngineError(f"{plan}: {error}") from error
        self.device, self.vocab_size = device, config.vocab_size
        self.rows, self.max_batch_size = rows, max_batch_size
        self._keep: dict[str, torch.Tensor] = {}  # what the library holds bare addresses of
        self._runtime, self._engine = load_plan(self._trt, plan, built_with or {}, device)
        self._context = self._engine.create_execution_context()
        self._names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        self._limits = self._longest_steps()
        self._profile = 0
        self._bound: tuple[int, int, int] | None = None  # the caches in use: profile, first slot, count
        dtype = PRECISIONS[precision]
        shape = (config.num_layers * 2, max_batch_size, config.num_kv_heads, rows, config.head_dim)
        self.cache = torch.zeros(shape, dtype=dtype, device=device)
        wanted = [name.removeprefix("weights.") for name in self._names if name.startswith("weights.")]
        if wanted and load_weight is None:
            raise EngineError(f"{plan}: its weights are not inside, and no checkpoint was given for them")
        if wanted and load_weight is not None:
            for name, tensor in device_weights(config, wanted, load_weight, dtype, device):
                self._bind(f"weights.{name}", tensor)

    def forward(self, step: Step) -> torch.Tensor:
        check_step(step, self.rows)
        count, tokens = step.tokens.shape
        stream = torch.cuda.current_stream(self.device).cuda_stream
        self._choose_profile(tokens, stream)
        self._bind("input_ids", step.tokens.to(self.device).contiguous())
        self._bind("position_ids", step.positions.to(self.device).contiguous())
        self._bind("write_index", on_device(np.array(step.write_index, dtype=np.int32), self.device))
        if "ancestors" in self._names:
            self._bind("ancestors", pack_rows(step.visible.to(self.device)))
            self._bind("prefix_length", on_device(np.array(step.prefix, dtype=np.int32), self.device))
        else:
            self._bind("attention_mask", full_mask(step, self.rows).to(self.device).contiguous())
        if self._bound != (self._profile, step.first_slot, count):
            for name, tensor in cache_bindings(self.cache, step.first_slot, count):
                self._bind(name, tensor)
            self._bound = (self._profile, step.first_slot, count)
        logits = torch.empty(count, tokens, self.vocab_size, dtype=torch.float32, device=self.device)
        self._bind("logits", logits)
        if not self._context.execute_async_v3(stream):
            raise EngineError(f"TensorRT could not run a step of {count} sequences by {tokens} tokens")
        return logits

    def move_rows(self, slot: int, sources: list[int], target: int) -> None:
        move_rows(self.cache, slot, sources, target)

    def move_slot(self, source: int, target: int) -> None:
        self.cache[:, target].copy_(self.cache[:, source])

    def close(self) -> None:
        torch.cuda.current_stream(self.device).synchronize()
        self._keep.clear()
        self.cache = self.cache.new_empty(0)
        self._context = self._engine = self._runtime = None

    def _longest_steps(self) -> list[int]:
        """The longest step of each of the plan's profiles."""
        profiles = range(self._engine.num_optimization_profiles)
        return [self._engine.get_tensor_profile_shape("input_ids", profile)[2][1] for profile in profiles]

    def _choose_profile(self, tokens: int, stream: int) -> None:
        """Switch to the profile with the shortest steps that allows `tokens`."""
        fitting = [(limit, profile) for profile, limit in enumerate(self._limits) if tokens <= limit]
        if not fitting:
            longest = max(self._limits)
            raise EngineError(
                f"a step of {tokens} tokens is longer than the {longest} that the engine was built for"
            )
        _, best = min(fitting)
        if best != self._profile:
            self._context.set_optimization_profile_async(best, stream)
            self._profile = best

    def _bind(self, name: str, tensor: torch.Tensor) -> None:
        """Give the library the address of `tensor`, and its shape if it is an input."""
        self._keep[name] = tensor
        if self._engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT:
            self._context.set_input_shape(name, tuple(tensor.shape))
        self._context.set_tensor_address(name, tensor.data_ptr())


def full_mask(step: Step, rows: int) -> torch.Tensor:
    """The step's mask over all of the cache's `rows`, as a plan wants it: bool `[n, 1, T, rows]`."""
    mask = dense_mask(step.prefix, step.visible)
    return F.pad(mask, (0, rows - mask.shape[-1]), value=False)


def cache_bindings(cache: torch.Tensor, first_slot: int, count: int) -> Iterator[tuple[str, torch.Tensor]]:
    """The plan's names for the parts of `cache` `[layers * 2, slots, H_kv, S, D]`, with those parts.

    Each part is contiguous, `[count, H_kv, S, D]`. What goes in comes out at the same address.
    """
    for index, layer in enumerate(cache.unbind(0)):
        name = f"{'value' if index % 2 else 'key'}.{index // 2}"
        slots = layer[first_slot : first_slot + count]
        yield f"past_{name}", slots
        yield f"present_{name}", slots


def device_weights(
    config: ModelConfig, names: list[str], load_weight: LoadWeight, dtype: torch.dtype, device: torch.device
) -> Iterator[tuple[str, torch.Tensor]]:
    """The engine weights `names`, made from checkpoint tensors one at a time; tied ones are one tensor.

    Raises EngineError for a weight whose parts do not make up the engine's shape.
    """
    specs = engine_weights(config)
    done: dict[tuple[str, ...], torch.Tensor] = {}
    for name in names:
        spec = specs[name]
        if spec.parts not in done:
            fused = torch.cat([load_weight(part).to(device=device, dtype=dtype) for part in spec.parts])
            if tuple(fused.shape) != spec.shape:
                raise EngineError(
                    f"the weight {name} has the shape {tuple(fused.shape)}, the engine expects {spec.shape}"
                )
            done[spec.parts] = fused
        yield name, done[spec.parts]
