"""The torch operations with every linear layer on packed weights: what is compiled for a CPU in float32."""

from __future__ import annotations

import torch

from saguaro.models.config import ModelConfig
from saguaro.models.torch_operations import TorchModel, TorchOperations
from saguaro.models.weights import engine_weights
from saguaro.plugins.packed_linear import pack, packed_linear


class PackedModel(TorchModel):
    """`TorchModel` over packed weights. Only worth compiling: in Python the packed operator is slow."""

    def __init__(
        self, config: ModelConfig, weights: dict[str, torch.Tensor], positions: int, *, panel: int, threads: int
    ):
        """`panel`: output features in one panel; `threads`: CPU threads of each product."""
        shapes = {name: weight.shape for name, weight in engine_weights(config).items()}
        linear = [name for name, shape in shapes.items() if len(shape) == 2 and "embed_tokens" not in name]
        packed = {name: pack(weights[name], panel) for name in linear}
        super().__init__(config, {**weights, **packed}, positions)
        self.features = {name: shapes[name][0] for name in linear}
        self.threads = threads

    def operations(self, *step: object) -> TorchOperations:
        return PackedOperations(self, *step)  # type: ignore[arg-type]


class PackedOperations(TorchOperations):
    def linear(self, x: torch.Tensor, weight: str, bias: str | None = None) -> torch.Tensor:
        model = self.model
        assert isinstance(model, PackedModel)
        rows = x.reshape(-1, x.shape[-1]).contiguous()
        out = packed_linear(rows, self.weights[weight], model.features[weight], model.threads)
        out = out.view(*x.shape[:-1], -1)
        return out if bias is None else out + self.weights[bias]
