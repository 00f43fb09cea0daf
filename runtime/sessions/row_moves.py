"""Bringing rows of a slot's KV cache together, for sessions on a GPU: one kernel on the current stream."""

from __future__ import annotations

import torch

from saguaro.plugins import kv_compact
from saguaro.runtime.sessions.device_copy import on_device

MOST_MOVED = 512  # rows that one kv_compact moves


def move_rows(cache: torch.Tensor, slot: int, sources: list[int], target: int) -> None:
    """Copy the rows `sources` of a slot, in order, to those from `target` on, in every layer; ranges may overlap.

    `cache` is `[layers * 2, slots, H_kv, S, D]`, keys before values.
    """
    offsets = [source - target for source in sources]
    if offsets == list(range(len(sources))):
        return
    device = cache.device
    if min(offsets) >= 0 and len(sources) <= MOST_MOVED:
        layers = cache[:, slot : slot + 1].unbind(0)
        kv_compact(layers[0::2], layers[1::2], on_device([offsets], device), on_device([target], device))
    else:  # from rows before the target, which kv_compact does not count
        rows = cache[:, slot]
        rows[:, :, target : target + len(sources)] = rows.index_select(2, on_device(sources, device))
