"""Row moves in plain torch: gather, then scatter, so that overlapping ranges cannot disturb each other."""

import torch


def kv_compact(caches: list[torch.Tensor], rows: list[list[int]], prefix_length: list[int]) -> None:
    """In each cache [B, H_kv, S, D], row prefix + rows[b][j] becomes row prefix + j; -1 moves nothing."""
    for b, (moves, prefix) in enumerate(zip(rows, prefix_length, strict=True)):
        pairs = [(prefix + row, prefix + j) for j, row in enumerate(moves) if row >= 0 and row != j]
        if not pairs:
            continue
        source = torch.tensor([source for source, _ in pairs])
        target = torch.tensor([target for _, target in pairs])
        for cache in caches:
            view = cache[b]
            view[:, target] = view[:, source]  # indexing on the right makes a copy first
