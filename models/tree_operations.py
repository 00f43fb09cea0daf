"""The torch operations with attention over packed masks, never a `[T, S]` one: what runs on a GPU.

A step's mask is a prefix that every token sees, and bits for the R rows after it. Attention is
`saguaro.plugins.tree_attention`: its kernel on CUDA, its reference elsewhere. No shape depends on the prefix,
so that one CUDA graph serves a step whatever the length of its sequences.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from saguaro.models import ARCHITECTURES
from saguaro.models.torch_operations import TorchModel, TorchOperations
from saguaro.plugins import tree_attention

TREE_ROWS = 512  # most rows after the prefix that tree_attention's bits may name
HEAD_SIZES = (64, 80, 96, 128, 256)  # that it has kernels for


class TreeModel(TorchModel):
    """`TorchModel`, whose `forward` takes a dense mask, with `tree_forward`, which takes a packed one."""

    def tree_forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        ancestors: torch.Tensor,
        prefix_length: torch.Tensor,
        write_index: torch.Tensor,
        cache: list[torch.Tensor],
    ) -> torch.Tensor:
        """One step: float32 logits `[B, T, V]`; its KV rows are written to `cache`.

        Args:
            input_ids, position_ids: `[B, T]` int64.
            ancestors: `[B, T, ceil(R / 32)]` int32, R <= 512, from `pack_rows`: bit i of a token is cache row
                `prefix_length + i`.
            prefix_length: `[B]` int64, rows that every token of the sequence sees.
            write_index: `[B]` int64, the cache row of each sequence's first token.
            cache: key and value of layer 0, of layer 1, ...: `[B, H_kv, S, D']` each. D' is the head size or
                more; of a larger one the rest is zero (see `padded_head_size`).
        """
        ops = TreeOperations(self, input_ids, position_ids, ancestors, prefix_length, write_index, cache)
        return ARCHITECTURES[self.config.architecture](ops, self.config)


class TreeOperations(TorchOperations):
    """See `TreeModel.tree_forward` for the tensors."""

    def __init__(
        self,
        model: TreeModel,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        ancestors: torch.Tensor,
        prefix_length: torch.Tensor,
        write_index: torch.Tensor,
        cache: list[torch.Tensor],
    ):
        # What stands for the dense mask is not used: `kv_update` and `attention` are this class's own.
        super().__init__(model, input_ids, position_ids, ancestors.unsqueeze(1), write_index, cache)
        self.ancestors, self.prefix_length = ancestors, prefix_length
        self.head_dim = model.config.head_dim
        self.padding = cache[0].shape[-1] - self.head_dim

    def rms_norm(self, x: torch.Tensor, weight: str, eps: float) -> torch.Tensor:
        return F.rms_norm(x, (x.shape[-1],), self.weights[weight], eps)  # on CUDA one kernel, not six

    def kv_update(
        self, layer: int, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = self.cache[2 * layer], self.cache[2 * layer + 1]
        keys[self.batch_rows, :, self.cache_rows] = self._pad(key)
        values[self.batch_rows, :, self.cache_rows] = self._pad(value)
        return keys, values

    def attention(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        heads_first = self._pad(query).transpose(1, 2)  # [B, H, T, D']
        scale = self.head_dim**-0.5
        out = tree_attention(heads_first, key, value, self.ancestors, self.prefix_length, scale)
        return out.transpose(1, 2)[..., : self.head_dim]

    def _pad(self, x: torch.Tensor) -> torch.Tensor:
        return F.pad(x, (0, self.padding)) if self.padding else x


def pack_rows(visible: torch.Tensor) -> torch.Tensor:
    """int32 `[n, T, ceil(R / 32)]` from bool `[n, T, R]`: bit i % 32 of word i // 32 is `visible[..., i]`."""
    words = F.pad(visible, (0, -visible.shape[-1] % 32)).unflatten(-1, (-1, 32))
    bits = torch.arange(32, dtype=torch.int32, device=visible.device)
    return (words.int() << bits).sum(-1, dtype=torch.int32)  # distinct bits, so that nothing carries


def padded_head_size(head_dim: int) -> int:
    """The smallest size with a kernel that holds `head_dim`; itself where none does.

    Zeros at the end of keys and queries change no product, and those of the values are cut off again.
    """
    return min((size for size in HEAD_SIZES if size >= head_dim), default=head_dim)
