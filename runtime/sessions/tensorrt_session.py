"""The TensorRT backends' session: a plan on an NVIDIA GPU, with torch for device memory and streams.

Not yet run on hardware. Its tests put the test-side interpreter in the library's place, which checks the
bindings, the mask and the cache's layout, but neither TensorRT's runtime nor the order of work on CUDA
streams.
"""

from __future__ import annotations

import importlib
import logging
import mmap
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from saguaro.engine.precision import PRECISIONS
from saguaro.errors import EngineError
from saguaro.models.config import ModelConfig
from saguaro.models.weights import engine_weights
from saguaro.runtime.sessions.masks import dense_mask
from saguaro.runtime.sessions.session import Step

_log = logging.getLogger("saguaro.tensorrt")

LoadWeight = Callable[[str], torch.Tensor]


class TensorRTSession:
    """See `Session`. The KV cache is one tensor `[layers * 2, slots, H_kv, S, D]`, keys before values.

    `plan` is what `saguaro.builder.tensorrt.build_plan` wrote for `config`, `precision`, `rows` and
    `max_batch_size`, and `library` is the module that built it. `load_weight` gives a checkpoint tensor by
    its name; only a plan with external weights needs it. Raises EngineError without a GPU or the library, for
    a plan that the library refuses, and for weights that are missing or have the wrong shape.
    """

    _runtime: Any
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
    ) -> None:
        if not torch.cuda.is_available():
            raise EngineError(
                f"{plan}: a TensorRT engine runs on an NVIDIA GPU and torch finds none here; "
                "load it on a machine with one, or build the pair with the backend torch"
            )
        self._trt = _import(library, plan)
        self.device, self.vocab_size = device, config.vocab_size
        self.rows, self.max_batch_size = rows, max_batch_size
        self._stream = torch.cuda.Stream(device)
        self._keep: dict[str, torch.Tensor] = {}  # what the library holds bare addresses of
        with torch.cuda.stream(self._stream):  # and so on `device`, whichever is current
            self._load(plan)
            self._limits = self._longest_steps()
            self._profile = 0
            self._bound: tuple[int, int, int] | None = None  # the caches in use: profile, first slot, count
            dtype = PRECISIONS[precision]
            shape = (config.num_layers * 2, max_batch_size, config.num_kv_heads, rows, config.head_dim)
            self.cache = torch.zeros(shape, dtype=dtype, device=device)
            wanted = self._external_weights()
            if wanted and load_weight is None:
                raise EngineError(f"{plan}: its weights are not inside, and no checkpoint was given for them")
            if wanted and load_weight is not None:
                for name, tensor in device_weights(config, wanted, load_weight, dtype, device):
                    self._bind(f"weights.{name}", tensor)

    def forward(self, step: Step) -> torch.Tensor:
        count, tokens = step.tokens.shape
        caller = torch.cuda.current_stream(self.device)
        self._stream.wait_stream(caller)  # where the step was made, and the last logits may still be in use
        with torch.cuda.stream(self._stream):
            self._choose_profile(tokens)
            self._bind("input_ids", step.tokens.to(self.device).contiguous())
            self._bind("position_ids", step.positions.to(self.device).contiguous())
            self._bind("attention_mask", full_mask(step, self.rows).to(self.device).contiguous())
            self._bind("write_index", torch.tensor(step.write_index, dtype=torch.int32, device=self.device))
            if self._bound != (self._profile, step.first_slot, count):
                for name, tensor in cache_bindings(self.cache, step.first_slot, count):
                    self._bind(name, tensor)
                self._bound = (self._profile, step.first_slot, count)
            logits = torch.empty(count, tokens, self.vocab_size, dtype=torch.float32, device=self.device)
            self._bind("logits", logits)
            if not self._context.execute_async_v3(self._stream.cuda_stream):
                raise EngineError(f"TensorRT could not run a step of {count} sequences by {tokens} tokens")
        caller.wait_stream(self._stream)
        return logits

    def move_rows(self, slot: int, sources: list[int], target: int) -> None:
        with torch.cuda.stream(self._stream):
            rows = self.cache[:, slot]
            moved = rows.index_select(2, torch.tensor(sources, device=self.device))
            rows[:, :, target : target + len(sources)] = moved

    def move_slot(self, source: int, target: int) -> None:
        with torch.cuda.stream(self._stream):
            self.cache[:, target].copy_(self.cache[:, source])

    def close(self) -> None:
        self._stream.synchronize()
        self._keep.clear()
        self.cache = self.cache.new_empty(0)
        self._context = self._engine = self._runtime = None

    def _load(self, plan: Path) -> None:
        log = _library_log(self._trt)
        log.error = ""
        self._runtime = self._trt.Runtime(log)  # has to outlive the engine
        with plan.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            self._engine = self._runtime.deserialize_cuda_engine(mapped)
        if self._engine is None:
            raise EngineError(
                f"{plan}: {self._trt.__name__} could not load this engine "
                f"({log.error or 'it gave no reason'}); build it again with the version installed here"
            )
        self._context = self._engine.create_execution_context()

    def _longest_steps(self) -> list[int]:
        """The longest step of each of the plan's profiles."""
        profiles = range(self._engine.num_optimization_profiles)
        return [self._engine.get_tensor_profile_shape("input_ids", profile)[2][1] for profile in profiles]

    def _external_weights(self) -> list[str]:
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        return [name.removeprefix("weights.") for name in names if name.startswith("weights.")]

    def _choose_profile(self, tokens: int) -> None:
        """Switch to the profile with the shortest steps that allows `tokens`."""
        fitting = [(limit, profile) for profile, limit in enumerate(self._limits) if tokens <= limit]
        if not fitting:
            longest = max(self._limits)
            raise EngineError(
                f"a step of {tokens} tokens is longer than the {longest} that the engine was built for"
            )
        _, best = min(fitting)
        if best != self._profile:
            self._context.set_optimization_profile_async(best, self._stream.cuda_stream)
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


def _import(library: str, plan: Path) -> Any:
    try:
        return importlib.import_module(library)
    except (ImportError, OSError) as error:
        extra = library.replace("_", "-")
        raise EngineError(
            f"{plan}: this engine needs the library {library}, which cannot be imported ({error}); "
            f"install it with: pip install saguaro[{extra}]"
        ) from error


@lru_cache
def _library_log(trt: Any) -> Any:
    """An `ILogger` that writes to the logger "saguaro.tensorrt" and keeps the first error.

    There is one for each library, since the library keeps to the first that it is given.
    """
    severity = trt.ILogger.Severity
    levels = {severity.WARNING: logging.WARNING, severity.INFO: logging.INFO, severity.VERBOSE: logging.DEBUG}

    class Log(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)
            self.error = ""

        def log(self, severity: Any, message: str) -> None:
            level = levels.get(severity, logging.ERROR)
            if level == logging.ERROR:
                self.error = self.error or message
            _log.log(level, "%s", message)

    return Log()
