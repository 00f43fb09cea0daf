"""How the draft samples for one request under rejection verification, and what it expects the target to make of it.

Its noise is of a stream of its own, keyed by the round that will verify the tokens: what is proposed after a bonus
token depends on that token's position and the context alone. So drafting ahead and drafting just in time propose the
same chain, and a seed gives the same tokens in SD and in SSD.
"""

from __future__ import annotations

from collections.abc import Sequence as Sequences
from dataclasses import dataclass

import numpy as np
import torch

from saguaro.runtime.sequence import Sequence
from saguaro.runtime.speculation import Ranked
from saguaro.runtime.speculation.rejection import (
    acceptance_uniforms,
    draft_noise,
    draw,
    filtered_distribution,
    residual_noise,
    saguaro_sampling,
)

LOWEST = -1e4  # a score for what the draft would never say: finite, so that differences are


@dataclass(frozen=True)
class Proposals:
    """Rows `[w, V']` are the draft's distributions after w tokens; at temperature 0 they are its logits."""

    sequence: Sequence
    top: int  # F of Saguaro sampling: a constant, since a proposal may not depend on which outcomes are prepared
    weight: float  # C

    @property
    def greedy(self) -> bool:
        return self.sequence.params.temperature == 0

    def rows(self, logits: torch.Tensor) -> torch.Tensor:
        params = self.sequence.params
        if self.greedy:
            return logits
        return filtered_distribution(logits, params.temperature, params.top_k, params.top_p, params.min_p)

    def drawn_from(self, rows: torch.Tensor) -> torch.Tensor:
        """q, of a request that samples."""
        return rows if self.weight == 1 else saguaro_sampling(rows, self.top, self.weight)

    def noise(
        self, rounds: Sequences[int], depths: range, size: int, device: torch.device
    ) -> list[torch.Tensor | None]:
        """For each of the `depths` the noise `[w, size]` of proposals that lie so far after the bonus token of the
        round that verifies them, whose position is `rounds[i]`; None at temperature 0."""
        if self.greedy:
            return [None] * len(depths)
        distinct = sorted(set(rounds))  # rows after as many accepted tokens share their noise: one of them comes true
        made = [
            draft_noise(self.sequence.seed, root, [root + 1 + depth for depth in depths], size, device)
            for root in distinct
        ]
        return list(torch.stack(made, dim=1)[:, [distinct.index(root) for root in rounds]].unbind(0))

    def tokens(self, rows: torch.Tensor, noise: torch.Tensor | None) -> torch.Tensor:
        """The proposals int64 `[w]` after `rows`, under `noise` `[w, V']`."""
        return rows.argmax(-1) if noise is None else draw(self.drawn_from(rows), noise)

    def ranked(
        self, rows: torch.Tensor, chain: Sequences[int], root: int, count: int, public_coins: bool
    ) -> list[Ranked]:
        """`count` candidates for the bonus token after each number of accepted tokens of the chain under verification.

        Where the request samples, the proposed token stands first, and its score is the uniform that decides about it;
        the others follow, ranked as the target would draw them if its residual were the draft's own distribution.

        Args:
            rows: `[K + 1, V']` after the bonus token, x_1, ..., x_K.
            root: the position of the bonus token, which names the round.
            public_coins: False ranks without a look at the round's coins, to measure what that look brings.
        """
        if self.greedy:
            best = rows.topk(count)
            return list(map(Ranked, best.indices.cpu().numpy(), best.values.cpu().numpy()))
        size, seed = rows.shape[-1], self.sequence.seed
        scores = self._expected(rows, len(chain)).log()
        if public_coins:
            scores += residual_noise(seed, root, range(root + 1, root + 1 + len(rows)), size, rows.device)
        known = [(k, token) for k, token in enumerate(chain) if token < size]
        if known:
            scores[tuple(torch.tensor(known, device=rows.device).T)] = LOWEST
        best = scores.clamp_(min=LOWEST).topk(count)
        tokens, values = best.indices.cpu().numpy(), best.values.cpu().numpy()
        uniforms = acceptance_uniforms(seed, root, root + 1, len(chain)) if public_coins else [0.5] * len(chain)
        at_stops = [
            Ranked(np.append(token, tokens[k, :-1]), np.append(np.float32(u), values[k, :-1]))
            for k, (token, u) in enumerate(zip(chain, uniforms, strict=True))
        ]
        return [*at_stops, Ranked(tokens[-1], values[-1])]

    def _expected(self, rows: torch.Tensor, stops: int) -> torch.Tensor:
        """What the bonus token is likely drawn from, up to a factor: where a token is rejected, Saguaro sampling leaves
        the mass that it took from the draft's favourites, and the models differ anywhere."""
        if self.weight == 1:
            return rows
        taken = (rows[:stops] - self.drawn_from(rows[:stops])).clamp(min=0)
        return torch.cat([taken + 0.1 * rows[:stops], rows[stops:]])
