"""A network's weights by name: inputs, to be bound when the engine is loaded, or constants in the plan."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from saguaro.builder.tensorrt.precision import tensorrt_type
from saguaro.models.config import ModelConfig
from saguaro.models.weights import engine_weights


class NetworkWeights:
    """The tensors of `engine_weights(config)` in the type `dtype`, added to `network` when first asked for.

    Without `load_weight` each is the input `weights.NAME`. With it each is a constant: `load_weight` gives a
    checkpoint tensor by its name, on the CPU and of any float type. TensorRT reads the constants' memory when
    it builds, so keep this object until then. A weight that needs neither fusing nor casting stays where
    `load_weight` has it (in the checkpoint's file mapping, say); the others are copied once.
    """

    def __init__(
        self,
        trt: Any,
        network: Any,
        config: ModelConfig,
        dtype: torch.dtype,
        load_weight: Callable[[str], torch.Tensor] | None = None,
    ) -> None:
        self._trt = trt
        self._network = network
        self._specs = engine_weights(config)
        self._dtype = dtype
        self._load_weight = load_weight
        self._tensors: dict[tuple[str, ...] | str, Any] = {}
        self.constants: list[torch.Tensor] = []  # in the order of the network's constant layers

    def __getitem__(self, name: str) -> Any:
        """The ITensor of `name`, shaped as `engine_weights` says. Raises KeyError when there is none."""
        spec = self._specs[name]
        if self._load_weight is None:
            if name not in self._tensors:
                kind = tensorrt_type(self._trt, self._dtype)
                self._tensors[name] = self._network.add_input(f"weights.{name}", kind, spec.shape)
            return self._tensors[name]
        if spec.parts not in self._tensors:  # by its parts, so that tied weights are one constant
            parts = [self._load_weight(part) for part in spec.parts]
            fused = parts[0] if len(parts) == 1 else torch.cat(parts)
            self._tensors[spec.parts] = self.constant(fused.to(self._dtype))
        return self._tensors[spec.parts]

    def constant(self, value: torch.Tensor) -> Any:
        """A constant of the shape and type of `value`."""
        value = value.contiguous()
        self.constants.append(value)
        weights = self._trt.Weights(tensorrt_type(self._trt, value.dtype), value.data_ptr(), value.numel())
        return self._network.add_constant(tuple(value.shape), weights).get_output(0)
