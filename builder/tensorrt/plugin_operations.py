"""The network with our `tree_attention` plugins in the place of the library's own attention.

The mask is not `[B, 1, T, S]` booleans but a prefix length and bits for the rows after it, so that its size does
not grow with the sequence. The kernels are in the plan as PTX: running it takes neither Python nor Triton.

Not run on hardware. TensorRT 11.1 and 11.2 are reported to leak memory when the shapes of such plugins change
(NVIDIA/TensorRT#4849); `build.attention: native` does without them.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import torch

from saguaro.builder.tensorrt.gpu import Gpu
from saguaro.builder.tensorrt.operations import TensorRTOperations, output
from saguaro.builder.tensorrt.weights import NetworkWeights
from saguaro.engine.precision import PRECISIONS
from saguaro.errors import ConfigError, SaguaroError
from saguaro.models.config import ModelConfig
from saguaro.plugins.tree_attention import HEAD_SIZES

SCRATCH_BYTES = 1 << 28  # most for the shares of one layer's attention


@dataclass(frozen=True)
class PluginAttention:
    """What the plugins are told of the engine: `splits` shares of the cache, and the most `pairs` of a query head
    and a token that share a KV head in one step."""

    splits: int
    pairs: int


class PluginOperations(TensorRTOperations):
    """See `TensorRTOperations`. The inputs `ancestors` `[B, T, W]` int32 and `prefix_length` `[B]` int32 stand for
    `attention_mask`: bit i of a token says whether it sees cache row `prefix_length + i`."""

    def __init__(
        self,
        trt: Any,
        network: Any,
        config: ModelConfig,
        dtype: torch.dtype,
        rows: int,
        weights: NetworkWeights,
        attention: PluginAttention,
    ) -> None:
        super().__init__(trt, network, config, dtype, rows, weights)
        self._attributes = attention
        self._precision = next(name for name, known in PRECISIONS.items() if known == dtype)
        self._plugins = plugin_module().op.saguaro

    def attention(self, query: Any, key: Any, value: Any) -> Any:
        size = self._config.head_dim
        split = self._plugin(
            self._plugins.tree_attention_split(
                query, key, value, self._ancestors, self._prefix_length,
                head_size=size, pairs=self._attributes.pairs, splits=self._attributes.splits,
                scale=1 / math.sqrt(size),
            )
        )  # fmt: skip
        merge = self._plugins.tree_attention_merge(
            split.get_output(0), split.get_output(1), head_size=size, precision=self._precision
        )
        return output(self._plugin(merge))

    def _add_mask(self) -> None:
        self._ancestors = self._network.add_input("ancestors", self._trt.int32, (-1, -1, -1))
        self._prefix_length = self._network.add_input("prefix_length", self._trt.int32, (-1,))

    def _plugin(self, made: Any) -> Any:
        layer = self._network.add_plugin(made, aot=True)  # or it would be a call into Python
        if layer is None:
            raise SaguaroError("TensorRT refused a plugin of the network")
        return layer


def plugin_module() -> Any:
    """`tensorrt.plugin`. Import it here: it warns that it is experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorrt.plugin

    return tensorrt.plugin


def register_plugins(gpu: Gpu) -> None:
    """Make the plugins known to TensorRT; what is built from now on has kernels for `gpu`. Raises ConfigError
    without Triton, which compiles them."""
    try:
        import triton  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"build.attention plugin needs Triton to compile its kernels, which cannot be imported ({error}); "
            "install it with: pip install saguaro[tensorrt], or build with attention native"
        ) from error
    from saguaro.plugins.embedding import register_all

    register_all(gpu.capability)


def check_head_size(config: ModelConfig, role: str) -> None:
    """Raise ConfigError when there is no kernel for the model's heads."""
    if config.head_dim not in HEAD_SIZES:
        sizes = ", ".join(map(str, HEAD_SIZES))
        raise ConfigError(
            f"build.attention plugin has kernels for heads of {sizes}, and the {role}'s have {config.head_dim}; "
            "build with attention native"
        )


def plan_attention(
    config: ModelConfig, dtype: torch.dtype, rows: int, max_batch_size: int, max_step: int, gpu: Gpu
) -> PluginAttention:
    """Shares for the step that matters most, a short one of a single sequence, as far as their memory allows it in
    the largest step."""
    from saguaro.plugins.tree_attention.kernel import choose_splits, tile

    pairs = config.num_heads // config.num_kv_heads * max_step
    block = tile(config.head_dim, dtype.itemsize, pairs)["BLOCK_N"]
    share = 4 * max_batch_size * config.num_heads * max_step * config.head_dim  # bytes: the shares are float32
    fitting = max(1, SCRATCH_BYTES // share)
    splits = choose_splits(config.num_kv_heads, rows, block, gpu.processors)
    return PluginAttention(min(splits, 1 << (fitting.bit_length() - 1)), pairs)
