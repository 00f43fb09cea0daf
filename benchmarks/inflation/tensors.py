"""The tensors of a model of a larger shape that computes the same function.

Why the function is the same. h, H are the small and the large hidden size; a residual x becomes [x, 0]:
- **Norms.** The mean of squares of [x, 0] over H is h/H times that of x over h. With eps' = eps h/H,
  `1/sqrt(mean' + eps') = sqrt(H/h) / sqrt(mean + eps)`, which gains multiplied by sqrt(h/H) undo. (Up to the
  rounding of the gains: in bf16 none where H/h is a power of 4, in fp32 no more than that of any sum.)
- **Weights that read the residual** (q, k, v, gate, up, head) meet zeros in their padding columns, which may
  hold anything. **Weights that write it** (embedding, o, down) are zero in their padding rows: it stays
  [x, 0].
- **Heads.** An extra query head computes something, and zero columns of o ignore it. Query head j reads
  key-value head j // G, with G query heads to each. So the g query heads of a small key-value head go to
  consecutive places under one large one or, when G < g, under ceil(g/G) copies of it. The head size, and with
  it RoPE, stays.
- **MLP.** An extra neuron computes something, and a zero column of down ignores it.
- **Layers.** Extra layers are random but for o and down, which are zero: they add nothing to the residual.
- **Vocabulary.** A padding token must never win, so it needs a negative bias, and a residual coordinate that
  always holds a constant c gives one: every embedding has c there, no weight writes it, and all norms but the
  last have gain 0 there. Its square is taken out of eps: `eps' = (h eps - c^2)/H`. A padding row of the head
  has a large negative weight there, which makes its logit about -8192 sqrt(H/h) / rms(x). Where the head is
  the embedding, the logits of all real tokens grow by one and the same tiny amount: no choice and no
  probability changes.

What need not be zero is random, so that nothing of the large shape's cost can be skipped.
"""

from __future__ import annotations

import math

import torch

from saguaro.builder.checkpoint import Checkpoint, expected_tensors
from saguaro.models.config import ModelConfig

from .sizes import CONSTANT, copies

NOISE = 0.02  # deviation of random weights
# Of the vocabulary's bias, exact in fp16 too: the last norm's gain for c, a padding row's weight for it.
CONSTANT_GAIN, PADDING_WEIGHT = 2.0**10, -(2.0**15)

# Axes of each module's weight, [out, in]; its bias has the first.
AXES = {
    "embed_tokens": ("vocab", "hidden"),
    "input_layernorm": ("hidden",),
    "q_proj": ("query", "hidden"),
    "k_proj": ("kv", "hidden"),
    "v_proj": ("kv", "hidden"),
    "o_proj": ("hidden", "query"),
    "post_attention_layernorm": ("hidden",),
    "gate_proj": ("inner", "hidden"),
    "up_proj": ("inner", "hidden"),
    "down_proj": ("hidden", "inner"),
    "norm": ("hidden",),
    "lm_head": ("vocab", "hidden"),
}
Indices = tuple[list[int], list[int]]  # into the large axis, out of the small one


class Inflation:
    """The large model's tensors by name, each made when it is asked for; see the module's docstring."""

    def __init__(self, source: Checkpoint, large: ModelConfig, dtype: torch.dtype):
        small = source.config
        self.large, self._small, self._tensors, self._dtype = large, small, source.tensors, dtype
        self._random = torch.Generator().manual_seed(0)
        queries, kv = _head_places(small, large)
        self._places: dict[str, Indices] = {
            "vocab": _first(small.vocab_size),
            "hidden": _first(small.hidden_size),
            "inner": _first(small.intermediate_size),
            "query": _head_rows(queries, small.head_dim),
            "kv": _head_rows(kv, small.head_dim),
        }
        # The small model's layers, each the last of its share of the large one's.
        count, total = small.num_layers, large.num_layers
        self._layers = {(layer + 1) * total // count - 1: layer for layer in range(count)}
        self._padded_vocabulary = large.vocab_size > small.vocab_size
        self._shapes = expected_tensors(large)

    def tensor(self, name: str) -> torch.Tensor:
        """The large model's tensor `name`."""
        module = name.split(".")[-2]
        is_norm = module.endswith("norm")
        scale = math.sqrt(self._small.hidden_size / self.large.hidden_size) if is_norm else 1.0
        if module in ("embed_tokens", "o_proj", "down_proj"):
            tensor = torch.zeros(self._shapes[name], dtype=self._dtype)
        else:
            tensor = torch.empty(self._shapes[name], dtype=self._dtype)
            tensor.normal_(scale if is_norm else 0.0, NOISE * scale, generator=self._random)
        if (small_name := self._small_name(name)) is not None:
            axes = AXES[module][: tensor.ndim]
            into, out_of = (
                torch.meshgrid(*(torch.tensor(self._places[axis][side]) for axis in axes), indexing="ij")
                for side in (0, 1)
            )
            small = self._tensors.get(small_name)[out_of]
            tensor[into] = (small.double() * scale).to(self._dtype) if is_norm else small.to(self._dtype)
        if self._padded_vocabulary:
            self._add_bias(module, tensor)
        return tensor

    def _small_name(self, name: str) -> str | None:
        """The small model's tensor that goes into `name`; None in an extra layer."""
        if not name.startswith("model.layers."):
            return name
        _, _, index, rest = name.split(".", 3)
        layer = self._layers.get(int(index))
        return None if layer is None else f"model.layers.{layer}.{rest}"

    def _add_bias(self, module: str, tensor: torch.Tensor) -> None:
        """The vocabulary's bias in the first padding coordinate of the residual."""
        at, real = self._small.hidden_size, self._small.vocab_size
        if module.endswith("norm"):
            tensor[at] = CONSTANT_GAIN if module == "norm" else 0.0
        elif module in ("embed_tokens", "lm_head"):
            tensor[real:].normal_(0.0, NOISE, generator=self._random)
            tensor[:real, at] = CONSTANT if module == "embed_tokens" else 0.0
            tensor[real:, at] = PADDING_WEIGHT


def _head_places(small: ModelConfig, large: ModelConfig) -> tuple[Indices, Indices]:
    """Where query heads and key-value heads go. A large key-value head serves the query heads below it."""
    small_group, large_group = small.num_heads // small.num_kv_heads, large.num_heads // large.num_kv_heads
    copied = copies(small_group, large_group)
    queries: Indices = ([], [])
    for head in range(small.num_heads):
        kv_head, member = divmod(head, small_group)
        copy, place = divmod(member, large_group)
        queries[0].append((kv_head * copied + copy) * large_group + place)
        queries[1].append(head)
    used = small.num_kv_heads * copied
    return queries, (list(range(used)), [head // copied for head in range(used)])


def _head_rows(heads: Indices, head_dim: int) -> Indices:
    into, out_of = ([head * head_dim + row for head in side for row in range(head_dim)] for side in heads)
    return into, out_of


def _first(count: int) -> Indices:
    return list(range(count)), list(range(count))
