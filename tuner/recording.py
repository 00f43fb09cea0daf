"""What the draft thinks of text that the target wrote: from it, any setting's rounds can be played again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from saguaro.runtime.sequence import Sequence
from saguaro.runtime.sessions.rollout import Rollout, roll_out
from saguaro.runtime.sessions.session import Session, Step
from saguaro.runtime.speculation import Ranked
from saguaro.runtime.verifier import prefill


@dataclass
class Recording:
    """One completion and, for each of its L tokens, the draft's candidates in its place, best first."""

    prompt: list[int]
    truth: list[int]  # L
    tokens: np.ndarray  # [L, M]
    scores: np.ndarray  # [L, M], under the request's noise

    def ranked(self, index: int) -> Ranked:
        """For the token `index`. Beyond the end the last one stands in."""
        index = min(index, len(self.truth) - 1)
        return Ranked(self.tokens[index], self.scores[index])

    def best(self, index: int) -> int:
        return int(self.tokens[min(index, len(self.truth) - 1), 0])

    def to_dict(self) -> dict[str, Any]:
        scores = np.round(self.scores.astype(float), 4).tolist()
        return {"prompt": self.prompt, "truth": self.truth, "tokens": self.tokens.tolist(), "scores": scores}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Recording:
        scores = np.array(values["scores"], dtype=np.float32)
        return cls(values["prompt"], values["truth"], np.array(values["tokens"]), scores)


def record(session: Session, sequence: Sequence, vocab_size: int, candidates: int, chunk: int) -> Recording:
    """Of a finished completion. Runs on the thread that owns the draft's session.

    Args:
        vocab_size: the target's.
        candidates: M.
        chunk: most tokens in one forward pass.
    """
    first = sequence.prompt_length - 1
    known = [token if token < session.vocab_size else 0 for token in sequence.tokens]
    prefill(session, known[:first], 0, 0, chunk)
    noise = sequence.noise(vocab_size, session.device)
    candidates = min(candidates, vocab_size, session.vocab_size)
    tokens, scores = [], []
    for start in range(first, len(known) - 1, chunk):
        ids = known[start : min(start + chunk, len(known) - 1)]
        width = len(ids)
        step = Step(
            torch.tensor([ids], device=session.device),
            torch.arange(start, start + width, device=session.device)[None],
            [start],
            torch.ones(1, width, width, dtype=torch.bool, device=session.device).tril(),
            [start],
        )
        rows = noise.reach(start + 1, start + width) if noise else None
        size = min(vocab_size, session.vocab_size)
        rollout = Rollout(step, [rows], [width], candidates=candidates, vocab_size=size)
        roll_out(session, rollout)
        tokens.append(rollout.tokens[0, 0])
        scores.append(rollout.scores[0, 0])
    split = sequence.prompt_length
    return Recording(sequence.tokens[:split], sequence.tokens[split:], np.concatenate(tokens), np.concatenate(scores))
