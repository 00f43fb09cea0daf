"""The operations computed with torch: what the `torch` backend compiles ahead of time, or runs as it is."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F

from saguaro.models import ARCHITECTURES
from saguaro.models.config import ModelConfig
from saguaro.models.rope import inverse_frequencies
from saguaro.models.weights import engine_weights


class TorchOperations:
    """One step's tensors (see `Operations`). Heads tensors are `[B, T, heads, head_dim]`."""

    def __init__(
        self,
        model: TorchModel,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        attention_mask: torch.Tensor,  # [B, 1, T, S'], S' at most the cache's rows: the rest is not read
        write_index: torch.Tensor,
        cache: list[torch.Tensor],  # key and value of layer 0, of layer 1, ...: [B, H_kv, S, D] each
    ):
        self.model, self.cache, self.input_ids = model, cache, input_ids
        self.weights = weights = model.weights()
        self.groups = groups = model.config.num_heads // model.config.num_kv_heads
        dtype = weights["model.norm.weight"].dtype
        turned = model.angles[position_ids].unsqueeze(2)
        self.cos, self.sin = turned.cos().to(dtype), turned.sin().to(dtype)
        batch, steps = input_ids.shape
        self.batch_rows = torch.arange(batch, device=input_ids.device).unsqueeze(1)
        self.cache_rows = write_index.unsqueeze(1) + torch.arange(steps, device=input_ids.device)
        # The query heads of a group become further queries of their KV head, so that keys are not repeated.
        self.mask = attention_mask.expand(-1, groups, -1, -1).reshape(batch, 1, groups * steps, -1)
        self.visible_rows = attention_mask.shape[-1]

    def embedding(self, weight: str) -> torch.Tensor:
        return F.embedding(self.input_ids, self.weights[weight])

    def linear(self, x: torch.Tensor, weight: str, bias: str | None = None) -> torch.Tensor:
        return F.linear(x, self.weights[weight], None if bias is None else self.weights[bias])

    def rms_norm(self, x: torch.Tensor, weight: str, eps: float) -> torch.Tensor:
        wide = x.float()
        wide = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
        return wide.to(x.dtype) * self.weights[weight]

    def split(self, x: torch.Tensor, sizes: Sequence[int]) -> list[torch.Tensor]:
        return list(x.split(list(sizes), dim=-1))

    def split_heads(self, x: torch.Tensor, heads: int, head_dim: int) -> torch.Tensor:
        return x.unflatten(-1, (heads, head_dim))

    def merge_heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(-2)

    def rope(self, x: torch.Tensor) -> torch.Tensor:
        first, second = x.chunk(2, dim=-1)
        return x * self.cos + torch.cat([-second, first], dim=-1) * self.sin

    def kv_update(self, layer: int, key: torch.Tensor, value: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        keys, values = self.cache[2 * layer], self.cache[2 * layer + 1]
        keys[self.batch_rows, :, self.cache_rows] = key
        values[self.batch_rows, :, self.cache_rows] = value
        return keys[:, :, : self.visible_rows], values[:, :, : self.visible_rows]

    def attention(self, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        batch, steps, heads, head_dim = query.shape
        kv_heads = heads // self.groups
        grouped = query.view(batch, steps, kv_heads, self.groups, head_dim).permute(0, 2, 3, 1, 4)
        grouped = grouped.reshape(batch, kv_heads, self.groups * steps, head_dim)
        out = F.scaled_dot_product_attention(grouped, key, value, attn_mask=self.mask)
        out = out.view(batch, kv_heads, self.groups, steps, head_dim).permute(0, 3, 1, 2, 4)
        return out.reshape(batch, steps, heads, head_dim)

    def silu(self, x: torch.Tensor) -> torch.Tensor:
        return F.silu(x)

    def add(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a + b

    def mul(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a * b

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        return x.float()


class TorchModel(torch.nn.Module):
    """One architecture with its weights, as a module: `forward` takes the tensors of the engine contract."""

    def __init__(self, config: ModelConfig, weights: dict[str, torch.Tensor], positions: int):
        """`weights` as `engine_weights(config)` names them; `positions` is how many positions RoPE must reach."""
        super().__init__()
        self.config = config
        self.names = list(engine_weights(config))
        for index, name in enumerate(self.names):  # buffers may not have dots in their names
            self.register_buffer(f"w{index}", weights[name])
        frequencies = inverse_frequencies(config)
        angles = torch.arange(positions, dtype=torch.float32)[:, None] * frequencies
        self.angles: torch.Tensor
        self.register_buffer("angles", torch.cat([angles, angles], dim=-1).to(weights["model.norm.weight"].device))

    def forward(
        self,
        input_ids: torch.Tensor,
        position_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        write_index: torch.Tensor,
        cache: list[torch.Tensor],
    ) -> torch.Tensor:
        """One step of the engine contract (design: `input_ids [B, T]` to float32 `logits [B, T, V]`)."""
        ops = self.operations(input_ids, position_ids, attention_mask, write_index, cache)
        return ARCHITECTURES[self.config.architecture](ops, self.config)

    def operations(self, *step: object) -> TorchOperations:
        """The operations over one step's tensors."""
        return TorchOperations(self, *step)  # type: ignore[arg-type]

    def weights(self) -> dict[str, torch.Tensor]:
        """By the names that architectures use."""
        return {name: getattr(self, f"w{index}") for index, name in enumerate(self.names)}
