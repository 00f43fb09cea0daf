"""Tree attention in plain torch, computed in float32 whatever the inputs' type."""

import torch

from .masks import unpack


def tree_attention(q, k_cache, v_cache, ancestors, prefix_length, scale: float) -> torch.Tensor:
    """softmax(scale q k^T over the visible rows) v, [B, H, T, D]; a query that sees no row gives zeros."""
    batch, heads, queries, size = q.shape
    kv_heads = k_cache.shape[1]
    nodes = 32 * ancestors.shape[-1]
    rows = min(k_cache.shape[2], int(prefix_length.max()) + nodes)
    row = torch.arange(rows, device=q.device)
    offset = row - prefix_length.unsqueeze(-1)  # [B, rows]: the tree row's number, negative in the prefix
    tree = unpack(ancestors, nodes).gather(-1, offset.clamp(0, nodes - 1).unsqueeze(1).expand(-1, queries, -1))
    visible = torch.where((offset < 0).unsqueeze(1), True, tree & (offset < nodes).unsqueeze(1))

    keys, values = k_cache[:, :, :rows].float(), v_cache[:, :, :rows].float()
    grouped = q.float().reshape(batch, kv_heads, heads // kv_heads, queries, size)
    scores = torch.einsum("bhgtd,bhsd->bhgts", grouped, keys) * scale
    hidden = ~visible[:, None, None]
    weights = scores.masked_fill(hidden, float("-inf")).softmax(-1).masked_fill(hidden, 0.0)
    # Rows past the sequence may hold anything, even NaN, so that a weight of zero is not enough.
    values = values.masked_fill(~visible.any(1)[:, None, :, None], 0.0)
    out = torch.einsum("bhgts,bhsd->bhgtd", weights, values)
    return out.reshape(batch, heads, queries, size).to(q.dtype)
