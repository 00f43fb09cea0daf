"""`saguaro.models.operations.Operations` as layers of a TensorRT network.

`hidden` tensors are `[B, T, C]`, `heads` tensors `[B, heads, T, D]`, which is how the cache and the attention
want them. The network is strongly typed: each value has the type written here, and TensorRT chooses none of
its own.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from saguaro.builder.tensorrt.precision import tensorrt_type
from saguaro.builder.tensorrt.weights import NetworkWeights
from saguaro.errors import SaguaroError
from saguaro.models.config import ModelConfig
from saguaro.models.rope import inverse_frequencies


class TensorRTOperations:
    """Adds to `network` what an architecture asks for; T of the protocol is `ITensor`.

    `rows` is the length of the KV cache, and so the number of positions that can be rotated.
    """

    def __init__(
        self,
        trt: Any,
        network: Any,
        config: ModelConfig,
        dtype: torch.dtype,
        rows: int,
        weights: NetworkWeights,
    ) -> None:
        self._trt = trt
        self._network = network
        self._config = config
        self._dtype = dtype
        self._type = tensorrt_type(trt, dtype)
        self._rows = rows
        self._weights = weights
        self._input_ids = network.add_input("input_ids", trt.int64, (-1, -1))
        self._position_ids = network.add_input("position_ids", trt.int64, (-1, -1))
        self._add_mask()
        self._write_index = network.add_input("write_index", trt.int32, (-1,))
        self._cos, self._sin = self._rotations()

    def embedding(self, weight: str) -> Any:
        return output(self._network.add_gather(self._weights[weight], self._input_ids, 0))

    def linear(self, x: Any, weight: str, bias: str | None = None) -> Any:
        none, transposed = self._trt.MatrixOperation.NONE, self._trt.MatrixOperation.TRANSPOSE
        matrix = self._aligned(self._weights[weight], x)
        y = output(self._network.add_matrix_multiply(x, none, matrix, transposed))
        return y if bias is None else self.add(y, self._aligned(self._weights[bias], y))

    def rms_norm(self, x: Any, weight: str, eps: float) -> Any:
        # TensorRT's normalization layer subtracts the mean. As in transformers, float32 until the weight.
        wide = self._cast(x, self._trt.float32)
        last = 1 << (len(x.shape) - 1)
        mean = output(
            self._network.add_reduce(self.mul(wide, wide), self._trt.ReduceOperation.AVG, last, True)
        )
        root = self._network.add_unary(self.add(mean, self._scalar(eps, mean)), self._trt.UnaryOperation.SQRT)
        normed = self._elementwise(wide, output(root), "DIV")
        return self.mul(self._cast(normed, self._type), self._aligned(self._weights[weight], x))

    def split(self, x: Any, sizes: Sequence[int]) -> list[Any]:
        parts, start = [], 0
        for size in sizes:
            layer = self._network.add_slice(x, (start,), (size,), (1,))
            layer.axes = (len(x.shape) - 1,)
            parts.append(layer.get_output(0))
            start += size
        return parts

    def split_heads(self, x: Any, heads: int, head_dim: int) -> Any:
        layer = self._network.add_shuffle(x)
        layer.reshape_dims = (0, 0, heads, head_dim)
        layer.second_transpose = (0, 2, 1, 3)
        return layer.get_output(0)

    def merge_heads(self, x: Any) -> Any:
        layer = self._network.add_shuffle(x)
        layer.first_transpose = (0, 2, 1, 3)
        layer.reshape_dims = (0, 0, x.shape[1] * x.shape[3])
        return layer.get_output(0)

    def rope(self, x: Any) -> Any:
        layer = self._network.add_rotary_embedding(x, self._cos, self._sin, False, 0)
        layer.set_input(3, self._position_ids)
        return layer.get_output(0)

    def kv_update(self, layer: int, key: Any, value: Any) -> tuple[Any, Any]:
        return self._update(f"key.{layer}", key), self._update(f"value.{layer}", value)

    def attention(self, query: Any, key: Any, value: Any) -> Any:
        scale = self._scalar(1 / math.sqrt(self._config.head_dim), query)
        scaled = self.mul(query, scale)  # the layer itself does not
        layer = self._network.add_attention_v2(
            scaled, key, value, self._trt.AttentionNormalizationOp.SOFTMAX, self._trt.CausalMaskKind.NONE
        )
        layer.mask = self._mask
        layer.decomposable = True  # a shape that no fused kernel fits is computed in pieces, not refused
        return layer.get_output(0)

    def silu(self, x: Any) -> Any:
        return self.mul(x, output(self._network.add_activation(x, self._trt.ActivationType.SIGMOID)))

    def add(self, a: Any, b: Any) -> Any:
        return self._elementwise(a, b, "SUM")

    def mul(self, a: Any, b: Any) -> Any:
        return self._elementwise(a, b, "PROD")

    def logits(self, x: Any) -> Any:
        return self._cast(x, self._trt.float32)

    def _add_mask(self) -> None:
        self._mask = self._network.add_input("attention_mask", self._trt.bool, (-1, 1, -1, self._rows))

    def _update(self, name: str, update: Any) -> Any:
        """The cache is an input and, at the same address, an output: TensorRT asks for both."""
        _, heads, _, head_dim = update.shape
        past = self._network.add_input(f"past_{name}", self._type, (-1, heads, self._rows, head_dim))
        layer = self._network.add_kv_cache_update(
            past, update, self._write_index, self._trt.KVCacheMode.LINEAR
        )
        present = layer.get_output(0)
        present.name = f"present_{name}"
        self._network.mark_output(present)
        return present

    def _rotations(self) -> tuple[Any, Any]:
        """Cosines and sines `[rows, head_dim / 2]`, from float32 angles as in transformers, then rounded."""
        positions = torch.arange(self._rows, dtype=torch.float32)
        angles = torch.outer(positions, inverse_frequencies(self._config))
        return (
            self._weights.constant(angles.cos().to(self._dtype)),
            self._weights.constant(angles.sin().to(self._dtype)),
        )

    def _cast(self, x: Any, kind: Any) -> Any:
        return x if x.dtype == kind else output(self._network.add_cast(x, kind))

    def _elementwise(self, a: Any, b: Any, operation: str) -> Any:
        return output(
            self._network.add_elementwise(a, b, getattr(self._trt.ElementWiseOperation, operation))
        )

    def _aligned(self, weight: Any, x: Any) -> Any:
        """`weight` with leading axes of 1, as many as broadcasting against `x` needs."""
        layer = self._network.add_shuffle(weight)
        layer.reshape_dims = (1,) * (len(x.shape) - len(weight.shape)) + tuple(weight.shape)
        return output(layer)

    def _scalar(self, value: float, like: Any) -> Any:
        """A constant of the type of `like` that broadcasts against it."""
        dtype = torch.float32 if like.dtype == self._trt.float32 else self._dtype
        return self._weights.constant(torch.full((1,) * len(like.shape), value, dtype=dtype))


def output(layer: Any) -> Any:
    """A layer's only output. The library gives None for a layer that it refuses, and says why in its log."""
    if layer is None:
        raise SaguaroError("TensorRT refused a layer of the network")
    return layer.get_output(0)
