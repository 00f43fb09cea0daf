"""The `torch` backend's session over any function that computes a step: the plain module, or a compiled one."""

from __future__ import annotations

from collections.abc import Callable

import torch

from saguaro.models.config import ModelConfig
from saguaro.models.torch_operations import TorchModel
from saguaro.runtime.sessions.masks import dense_mask
from saguaro.runtime.sessions.session import Step

Forward = Callable[[list[torch.Tensor]], torch.Tensor]


class TorchSession:
    """See `Session`. The KV cache is one tensor `[layers * 2, slots, H_kv, S, D]`; layers are views of it."""

    def __init__(
        self,
        run: Forward,
        config: ModelConfig,
        *,
        dtype: torch.dtype,
        max_batch_size: int,
        rows: int,
        device: torch.device,
    ):
        """`run` takes input_ids, position_ids, attention_mask, write_index and the cache's views, in this order."""
        self.run, self.device = run, device
        self.vocab_size, self.max_batch_size, self.rows = config.vocab_size, max_batch_size, rows
        shape = (config.num_layers * 2, max_batch_size, config.num_kv_heads, rows, config.head_dim)
        self.cache = torch.zeros(shape, dtype=dtype, device=device)
        # On a CPU numpy moves a few rows in a fraction of torch's time.
        self._bytes = self.cache.view(torch.uint8).numpy() if device.type == "cpu" else None
        self._views: dict[tuple[int, int], list[torch.Tensor]] = {}

    def forward(self, step: Step) -> torch.Tensor:
        count = step.tokens.shape[0]
        return self.run(
            [  # compiled code takes the strides of contiguous tensors for granted
                step.tokens.contiguous(),
                step.positions.contiguous(),
                dense_mask(step.prefix, step.visible).contiguous(),
                torch.tensor(step.write_index, device=self.device),
                *self._slots(step.first_slot, count),
            ]
        )

    def _slots(self, first: int, count: int) -> list[torch.Tensor]:
        if (first, count) not in self._views:
            self._views[first, count] = list(self.cache[:, first : first + count].unbind(0))
        return self._views[first, count]

    def move_rows(self, slot: int, sources: list[int], target: int) -> None:
        if sources == list(range(target, target + len(sources))):
            return
        if self._bytes is not None:
            bytes_ = self._bytes[:, slot]
            bytes_[:, :, target : target + len(sources)] = bytes_[:, :, sources]
        else:
            rows = self.cache[:, slot]
            rows[:, :, target : target + len(sources)] = rows[:, :, torch.tensor(sources, device=self.device)]

    def move_slot(self, source: int, target: int) -> None:
        self.cache[:, target].copy_(self.cache[:, source])

    def close(self) -> None:
        self._views.clear()
        self._bytes = None
        self.cache = self.cache.new_empty(0)


def eager_forward(config: ModelConfig, weights: dict[str, torch.Tensor], positions: int) -> Forward:
    """The architecture run operation by operation, on the weights' device."""
    model = TorchModel(config, weights, positions)
    return lambda inputs: model(*inputs[:4], inputs[4:])
