"""The draft's scores of the next token under a request's noise: what its argmax and its ranking go by."""

from __future__ import annotations

import torch

from saguaro.plugins import gumbel
from saguaro.runtime.sequence import Sequence

AHEAD = 16  # rows of noise made at once


class DraftScores:
    """Adds the noise that the target will add too, so that both tend to pick the same token.

    Branches at one position share its row of noise, and a row is used again in the rounds that follow, so rows
    are kept while they lie ahead.
    """

    def __init__(self, sequence: Sequence, vocab_size: int, device: torch.device):
        self.params, self.seed = sequence.params, sequence.seed
        self.device, self.vocab_size = device, vocab_size
        self.first = 0
        self.rows = torch.empty(0, self.vocab_size, device=self.device)

    def perturb(
        self, logits: torch.Tensor, position: int, offsets: torch.Tensor | None = None, largest: int = 0
    ) -> torch.Tensor:
        """Scores of logits `[V]` for the token at `position`, or of `[B, V]` for those at `position + offsets`,
        none of which is above `largest`."""
        if self.params.temperature == 0:
            return logits
        self._reach(position, position + largest)
        row = position - self.first
        noise = self.rows[row] if offsets is None else self.rows[offsets + row]
        return torch.add(noise, logits, alpha=1 / self.params.temperature)

    def _reach(self, first: int, last: int) -> None:
        """Make the rows up to `last` exist; drop those that lie too far behind to be asked for again."""
        end = self.first + len(self.rows)
        if first < self.first or first >= end:
            self.first, self.rows, end = first, self.rows[:0], first
        if last < end:
            return
        kept = self.rows[max(0, first - AHEAD - self.first) :]
        new = gumbel(self.seed, torch.arange(end, last + AHEAD, device=self.device), self.vocab_size)
        self.first, self.rows = end - len(kept), torch.cat([kept, new])
