"""From a model's shape, and its weights if they go inside, to a serialized TensorRT plan.

`tensorrt_rtx` needs no GPU for it; `tensorrt` builds on the GPU that it builds for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from saguaro.builder.tensorrt.gpu import Gpu, current
from saguaro.builder.tensorrt.interrupt import Guard, Progress, make_monitor, make_writer
from saguaro.builder.tensorrt.network import define_network
from saguaro.builder.tensorrt.plugin_operations import plan_attention, register_plugins
from saguaro.builder.tensorrt.precision import torch_type
from saguaro.builder.tensorrt.weights import NetworkWeights
from saguaro.engine.tensorrt_library import library_log
from saguaro.errors import ConfigError, SaguaroError
from saguaro.models.config import ModelConfig

# A plan has one profile, with kernels of its own, for steps of up to so many tokens, which decode, verify and
# draft, and one for prompt chunks of up to `max_step`. Each costs a third of the build's time or more.
SHORT_STEP = 32


def build_plan(
    config: ModelConfig,
    write: Callable[[bytes], object],
    *,
    tensorrt: Any,
    precision: str,
    max_batch_size: int,
    max_step: int,
    rows: int,
    load_weight: Callable[[str], torch.Tensor] | None = None,
    compute_capabilities: Sequence[str] = (),
    gpu: Gpu | None = None,
    plugin_attention: bool = False,
    progress: Progress | None = None,
) -> None:
    """Compile the model into a plan for steps of up to `max_batch_size` sequences by `max_step` tokens.

    `write` takes the plan piece by piece, as a file's does, so that it is never whole in memory. `tensorrt`
    is the module `tensorrt_rtx` or `tensorrt`; `precision` is "fp16", "bf16" or "fp32"; `rows` is the length
    of each sequence's KV cache. Without `load_weight` every weight is an input of the plan; with it the plan
    holds them all: it gives a checkpoint tensor by name, on the CPU, of any float type.
    `compute_capabilities` are the GPUs that `tensorrt_rtx` builds for, such as "8.9"; none means those that it
    chooses. `gpu` is the one that `tensorrt` builds on and for. With `plugin_attention`, which needs it, our
    plugins compute the attention.

    Raises ConfigError for an unknown precision or compute capability, SaguaroError with the library's reason
    when the build fails, and KeyboardInterrupt, or whatever `progress` or `write` raised, once the library
    has stopped; what has been written by then is no plan.
    """
    dtype = torch_type(precision)
    log = library_log(tensorrt)
    attention = None
    if plugin_attention:
        if gpu is None:
            raise ValueError("plugin_attention needs the gpu that its kernels are compiled for")
        register_plugins(gpu)
        attention = plan_attention(config, dtype, rows, max_batch_size, max_step, gpu)
    with current(gpu):
        builder = tensorrt.Builder(log)
    network = builder.create_network(1 << int(tensorrt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    settings = builder.create_builder_config()
    _choose_capabilities(tensorrt, settings, compute_capabilities)
    weights = NetworkWeights(tensorrt, network, config, dtype, load_weight)
    log.clear()
    try:
        define_network(tensorrt, network, config, dtype, rows, weights, attention)
        for limit in sorted({min(SHORT_STEP, max_step), max_step}):
            settings.add_optimization_profile(_profile(builder, network, max_batch_size, limit, rows))
    except SaguaroError as error:
        raise SaguaroError(f"{error}: {log.last_error}") from error
    guard = Guard()
    monitor = make_monitor(tensorrt, guard, progress)  # kept alive here: the settings only point to it
    settings.progress_monitor = monitor
    writer = make_writer(tensorrt, guard, write)

    def compile_network() -> Any:
        with current(gpu):  # each thread has its own current GPU
            return builder.build_serialized_network_to_stream(network, settings, writer)

    done = guard.run(compile_network, progress)
    if not done:
        raise SaguaroError(f"TensorRT could not build the engine: {log.last_error or 'it gave no reason'}")


def _choose_capabilities(trt: Any, settings: Any, names: Sequence[str]) -> None:
    if not names:
        return
    targets = getattr(trt, "ComputeCapability", None)  # "SM89" for 8.9; only tensorrt_rtx has it
    members = {} if targets is None else targets.__members__
    known = {f"{key[2:-1]}.{key[-1]}": member for key, member in members.items() if key.startswith("SM")}
    for name in names:
        if name not in known:
            choices = ", ".join(known) or "none"
            raise ConfigError(f"{trt.__name__} does not build for compute capability {name!r}; it offers {choices}")
    settings.num_compute_capabilities = len(names)
    for index, name in enumerate(names):
        settings.set_compute_capability(known[name], index)


def _profile(builder: Any, network: Any, max_batch_size: int, max_step: int, rows: int) -> Any:
    """The ranges of the dynamic axes: where the first is dynamic it is B, the next T, and then the words of a mask
    that may name every one of the cache's `rows`.

    B reaches 2 at least: with B fixed at 1, TensorRT-RTX 1.7 fails on the mask of the second attention.
    """
    least, largest = (1, 1, 1), (max(2, max_batch_size), max_step, _words(rows))
    usual = (1, max_step, _words(max_step))
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        if -1 in tuple(tensor.shape):
            ranges = [_shape(tuple(tensor.shape), sizes) for sizes in (least, usual, largest)]
            profile.set_shape(tensor.name, *ranges)
    return profile


def _words(rows: int) -> int:
    """int32 words that hold a bit for each row."""
    return -(-rows // 32)


def _shape(shape: tuple[int, ...], sizes: tuple[int, ...]) -> tuple[int, ...]:
    """`shape` with its dynamic axes replaced by `sizes`, in order."""
    left = iter(sizes)
    return tuple(next(left) if size < 0 else size for size in shape)
