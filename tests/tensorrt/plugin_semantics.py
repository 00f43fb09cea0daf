"""What the plugins in our networks compute, in plain torch: as their registrations say, not their kernels."""

from __future__ import annotations

import torch

from saguaro.engine.precision import PRECISIONS
from saguaro.plugins.tree_attention.masks import unpack

NOTHING = -1.0e30  # the logarithm of a share in which a query sees no row


def split(
    q: torch.Tensor,
    k_cache: torch.Tensor,
    v_cache: torch.Tensor,
    ancestors: torch.Tensor,
    prefix_length: torch.Tensor,
    *,
    head_size: int,
    pairs: int,
    splits: int,
    scale: float,
) -> list[torch.Tensor]:
    """Each share's own attention `[splits, B, H, T, D]` and its denominator's base-2 logarithm `[splits, B, H, T]`."""
    _, heads, queries, size = q.shape
    groups = heads // k_cache.shape[1]
    assert size == head_size
    assert groups * queries <= pairs
    row = torch.arange(k_cache.shape[2])
    offset = (row - prefix_length[:, None])[:, None].expand(-1, queries, -1)
    nodes = 32 * ancestors.shape[2]
    bits = unpack(ancestors, nodes).gather(-1, offset.clamp(0, nodes - 1))
    visible = (offset < 0) | (bits & (offset < nodes))
    keys, values = (x.float().repeat_interleave(groups, dim=1) for x in (k_cache, v_cache))
    scores = (q.float() @ keys.mT) * scale
    parts, logs = [], []
    for share in range(splits):
        mine = (visible & (row % splits == share))[:, None]
        masked = scores.masked_fill(~mine, float("-inf"))
        parts.append(masked.softmax(-1).nan_to_num(0.0) @ values)
        logs.append((masked.logsumexp(-1) / torch.tensor(2.0).log()).clamp(min=NOTHING))
    return [torch.stack(parts), torch.stack(logs)]


def merge(part: torch.Tensor, log: torch.Tensor, *, head_size: int, precision: str) -> list[torch.Tensor]:
    """The shares' join `[B, H, T, D]`."""
    assert part.shape[-1] == head_size
    weight = torch.exp2(log - log.amax(0)).masked_fill(log <= NOTHING, 0.0)
    joined = (part * weight[..., None]).sum(0) / weight.sum(0)[..., None]
    return [joined.to(PRECISIONS[precision])]


PLUGINS = {"saguaro::tree_attention_split": split, "saguaro::tree_attention_merge": merge}
