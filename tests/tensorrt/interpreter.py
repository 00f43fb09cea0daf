"""Computes a TensorRT network with torch, layer by layer, from the network's own definition.

So the tests check what was really put into the `INetworkDefinition`, where no GPU can run it. Every value is
also held against the type and the shape that TensorRT says it has.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F


class Values(dict[str, torch.Tensor]):
    """Tensors by name; those that no layer has made are outputs of plugins."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def __missing__(self, name: str) -> torch.Tensor:
        self[name] = self.network.compute(name, self)
        return self[name]


class Interpreter:
    """Runs `network`. `constants` are its constants' values: Python cannot read bf16 back from TensorRT."""

    def __init__(self, trt: Any, network: Any, constants: list[torch.Tensor]) -> None:
        self.trt = trt
        self.network = network
        self.constants = constants
        self.types = {
            trt.float32: torch.float32, trt.float16: torch.float16, trt.bfloat16: torch.bfloat16,
            trt.int32: torch.int32, trt.int64: torch.int64, trt.bool: torch.bool,
        }  # fmt: skip

    def run(self, inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """The outputs by name. Caches are written in place: an output cache is the input's tensor."""
        given = [self.network.get_input(index) for index in range(self.network.num_inputs)]
        values = Values(self.network)
        values.update({tensor.name: self._checked(tensor, inputs[tensor.name]) for tensor in given})
        constants = iter(self.constants)
        for index in range(self.network.num_layers):
            layer = self.network.get_layer(index)
            kind = layer.type.name
            layer.__class__ = getattr(self.trt, _CLASSES[kind])
            tensors = [layer.get_input(i) for i in range(layer.num_inputs)]
            arguments = [self._checked(tensor, values[tensor.name]) for tensor in tensors]
            if kind == "CONSTANT":
                arguments = [next(constants)]
            result = getattr(self, f"_{kind.lower()}")(layer, *arguments)
            output = layer.get_output(0)
            values[output.name] = self._checked(output, result)
        assert next(constants, None) is None
        outputs = [self.network.get_output(index).name for index in range(self.network.num_outputs)]
        return {name: values[name] for name in outputs}

    def _checked(self, tensor: Any, value: torch.Tensor) -> torch.Tensor:
        assert value.dtype == self.types[tensor.dtype], tensor.name
        shape = tuple(tensor.shape)
        assert len(shape) == value.dim(), tensor.name
        assert all(said in (-1, size) for said, size in zip(shape, value.shape, strict=True)), tensor.name
        return value

    def _constant(self, layer: Any, value: torch.Tensor) -> torch.Tensor:
        if value.dtype == torch.bfloat16:
            assert (layer.weights.dtype, layer.weights.size) == (self.trt.bfloat16, value.numel())
        else:
            assert torch.equal(torch.from_numpy(layer.weights).view(value.shape), value)
        return value

    def _gather(self, layer: Any, table: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        assert (layer.axis, layer.mode) == (0, self.trt.GatherMode.DEFAULT)
        return table[index]

    def _cast(self, layer: Any, x: torch.Tensor) -> torch.Tensor:
        return x.to(self.types[layer.to_type])

    def _matrix_multiply(self, layer: Any, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        transpose = self.trt.MatrixOperation.TRANSPOSE
        return (a.mT if layer.op0 == transpose else a) @ (b.mT if layer.op1 == transpose else b)

    def _elementwise(self, layer: Any, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        assert a.dtype == b.dtype  # torch would promote, a strongly typed network does not
        assert a.dim() == b.dim()
        return {"SUM": torch.add, "PROD": torch.mul, "DIV": torch.div}[layer.op.name](a, b)

    def _reduce(self, layer: Any, x: torch.Tensor) -> torch.Tensor:
        assert layer.op == self.trt.ReduceOperation.AVG
        axes = [axis for axis in range(x.dim()) if layer.axes >> axis & 1]
        return x.mean(axes, keepdim=layer.keep_dims)

    def _unary(self, layer: Any, x: torch.Tensor) -> torch.Tensor:
        assert layer.op == self.trt.UnaryOperation.SQRT
        return x.sqrt()

    def _activation(self, layer: Any, x: torch.Tensor) -> torch.Tensor:
        assert layer.type == self.trt.ActivationType.SIGMOID
        return x.sigmoid()

    def _slice(self, layer: Any, x: torch.Tensor) -> torch.Tensor:
        for axis, start, size, stride in zip(layer.axes, layer.start, layer.shape, layer.stride, strict=True):
            assert stride == 1
            x = x.narrow(axis, start, size)
        return x

    def _shuffle(self, layer: Any, x: torch.Tensor) -> torch.Tensor:
        x = x.permute(tuple(layer.first_transpose)[: x.dim()])
        x = x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(layer.reshape_dims)])
        return x.permute(tuple(layer.second_transpose)[: x.dim()])

    def _rotary_embedding(
        self, layer: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, positions: torch.Tensor
    ) -> torch.Tensor:
        assert not layer.interleaved
        assert layer.rotary_embedding_dim in (0, x.shape[-1])
        cos, sin = cos[positions].unsqueeze(1), sin[positions].unsqueeze(1)
        first, second = x.chunk(2, dim=-1)
        return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)

    def _kv_cache_update(
        self, layer: Any, cache: torch.Tensor, update: torch.Tensor, write_index: torch.Tensor
    ) -> torch.Tensor:
        assert layer.cache_mode == self.trt.KVCacheMode.LINEAR
        for batch, start in enumerate(write_index.tolist()):
            assert start + update.shape[2] <= cache.shape[2]
            cache[batch, :, start : start + update.shape[2]] = update[batch]
        return cache

    def _attention_input(self, layer: Any, *arguments: torch.Tensor) -> torch.Tensor:
        """Does the whole attention, which stands in the network as two layers."""
        return self._attend(layer.attention, *arguments)

    def _attention_output(self, layer: Any, result: torch.Tensor) -> torch.Tensor:
        return result

    def _attend(
        self, attention: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        assert attention.norm_op == self.trt.AttentionNormalizationOp.SOFTMAX
        assert attention.causal_kind == self.trt.CausalMaskKind.NONE
        assert attention.mask.name == "attention_mask"
        groups = query.shape[1] // key.shape[1]
        key, value = (x.repeat_interleave(groups, dim=1) for x in (key, value))
        return F.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, scale=1.0
        )  # TensorRT does not scale


_CLASSES = {
    "CONSTANT": "IConstantLayer", "GATHER": "IGatherLayer", "CAST": "ICastLayer", "REDUCE": "IReduceLayer",
    "MATRIX_MULTIPLY": "IMatrixMultiplyLayer", "ELEMENTWISE": "IElementWiseLayer", "UNARY": "IUnaryLayer",
    "ACTIVATION": "IActivationLayer", "SLICE": "ISliceLayer", "SHUFFLE": "IShuffleLayer",
    "ROTARY_EMBEDDING": "IRotaryEmbeddingLayer", "KV_CACHE_UPDATE": "IKVCacheUpdateLayer",
    "ATTENTION_INPUT": "IAttentionInputLayer", "ATTENTION_OUTPUT": "IAttentionOutputLayer",
}  # fmt: skip
