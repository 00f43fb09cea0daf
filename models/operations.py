"""The small set of operations that architectures are written in.

Two implementations exist: `saguaro.models.torch_operations` computes with torch, and
`saguaro.builder.tensorrt.operations` adds layers to a TensorRT network. Both take the tensors of the engine
contract (`input_ids`, `position_ids`, `attention_mask`, `write_index`, the KV cache) when they are made, so
that an architecture speaks of nothing but the model.

"Hidden" tensors are `[B, T, C]`. "Heads" tensors hold `[B, T, heads, head_dim]` in whatever order of axes the
implementation likes; only `split_heads` makes them and only `merge_heads` ends them.
Weights go by name; the names and shapes are those of `saguaro.models.weights`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeVar

T = TypeVar("T")


class Operations(Protocol[T]):
    def embedding(self, weight: str) -> T:
        """The rows of `weight` `[V, C]` that `input_ids` names: hidden `[B, T, C]`."""
        ...

    def linear(self, x: T, weight: str, bias: str | None = None) -> T:
        """`x @ weight.T + bias`, weight `[out, in]`."""
        ...

    def rms_norm(self, x: T, weight: str, eps: float) -> T:
        """`x / sqrt(mean(x^2) + eps) * weight` over the last axis, of hidden or of heads tensors."""
        ...

    def split(self, x: T, sizes: Sequence[int]) -> list[T]:
        """Cut the last axis of a hidden tensor."""
        ...

    def split_heads(self, x: T, heads: int, head_dim: int) -> T:
        """Hidden `[B, T, heads * head_dim]` to heads."""
        ...

    def merge_heads(self, x: T) -> T:
        """Heads to hidden `[B, T, heads * head_dim]`."""
        ...

    def rope(self, x: T) -> T:
        """Rotate every head by `position_ids`; the halves `[0, D/2)` and `[D/2, D)` are the pairs."""
        ...

    def kv_update(self, layer: int, key: T, value: T) -> tuple[T, T]:
        """Write this step's rows into the layer's cache from `write_index` on; give the cache to attend to."""
        ...

    def attention(self, query: T, key: T, value: T) -> T:
        """`softmax(q k^T / sqrt(D) where attention_mask) v`; query heads share KV heads in equal groups."""
        ...

    def silu(self, x: T) -> T: ...

    def add(self, a: T, b: T) -> T: ...

    def mul(self, a: T, b: T) -> T: ...

    def logits(self, x: T) -> T:
        """Hand `[B, T, V]` over as float32."""
        ...
