"""The noise of one request, as rows over the vocabulary: the same for the target and for the draft (design 3.2)."""

from __future__ import annotations

import torch

from saguaro.plugins import gumbel
from saguaro.runtime.sessions.rollout import Noise

AHEAD = 16  # rows made at once


class RequestNoise:
    """Both models ask it, each from its own thread: what a round needs is mostly there, because the draft, working
    ahead, has asked for it. Rows are kept while they lie ahead."""

    def __init__(self, seed: int, temperature: float, vocab_size: int, device: torch.device):
        self._seed, self._vocab_size, self._device = seed, vocab_size, device
        # Replaced as a whole, never changed: a thread that reads while another replaces it has one of the two.
        self._block = Noise(torch.empty(0, vocab_size, device=device), 0, 1 / temperature)

    def reach(self, first: int, last: int) -> Noise:
        """Noise for tokens at the positions `first` to `last`, and maybe more."""
        block = self._block
        begin, end = block.first, block.first + len(block.rows)
        if begin <= first and last < end:
            return block
        kept = block.rows[max(0, first - AHEAD - begin) :] if begin <= first < end else block.rows[:0]
        start = end if len(kept) else first
        new = gumbel(self._seed, torch.arange(start, last + AHEAD, device=self._device), self._vocab_size)
        self._block = Noise(torch.cat([kept, new]), start - len(kept), block.scale)
        return self._block
