"""The target's side of a round under `verification: rejection`: the same forward pass, another rule of acceptance.

The rule, and why coins that the draft may see leave it exact: `saguaro.runtime.speculation.rejection`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from saguaro.runtime.sequence import Sequence
from saguaro.runtime.sessions.session import Step
from saguaro.runtime.speculation.rejection import (
    DrawnChain,
    acceptance_uniforms,
    filtered_distribution,
    residual_noise,
    verify_chain,
)
from saguaro.runtime.verifier import Trees, Verifier, Walk, logprobs_of


class RejectionVerifier(Verifier):
    """Accepts a chain's tokens with probability min(1, p / q). Tokens are distributed as the target's own; which ones
    a seed gives depends on what was speculated."""

    def _walk(
        self, sequences: list[Sequence], step: Step, trees: Trees, meanwhile: Callable[[], None] | None
    ) -> list[Walk]:
        if meanwhile:
            meanwhile()
        logits = self.session.forward(step)
        return [_walk_chain(sequence, rows) for sequence, rows in zip(sequences, logits, strict=True)]


def _walk_chain(sequence: Sequence, logits: torch.Tensor) -> Walk:
    """`logits` `[N, V]` after the bonus token and the tokens of the chain."""
    speculation, params, root = sequence.speculation, sequence.params, sequence.prefix
    if not speculation.is_chain:
        raise ValueError("rejection verification takes chains; token trees need coupled verification")
    size, (vocab_size, device) = len(speculation), (logits.shape[-1], logits.device)
    target = filtered_distribution(logits[: size + 1], params.temperature, params.top_k, params.top_p, params.min_p)
    drawn_from = speculation.drawn_from.to(device) if isinstance(speculation, DrawnChain) else None
    outcome = verify_chain(
        speculation.tokens,
        target,
        drawn_from,
        acceptance_uniforms(sequence.seed, root, root + 1, size),
        lambda k: residual_noise(sequence.seed, root, root + 1 + k, vocab_size, device),
    )
    accepted = list(range(1, outcome.node + 1))
    if sequence.logprobs is not None:
        sequence.logprobs += logprobs_of(logits, [0, *accepted], sequence, outcome.bonus)
    return accepted, outcome.bonus
