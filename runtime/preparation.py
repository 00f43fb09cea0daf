"""What the draft prepares in one round while the target verifies."""

from __future__ import annotations

from collections.abc import Sequence as Sequences

from saguaro.runtime.sequence import Sequence
from saguaro.runtime.sessions.rollout import Progress, Rollout
from saguaro.runtime.speculation import SpeculationCache


class Preparation:
    """Made when the verification begins; the draft fills the caches, the round loop asks them and says when to stop."""

    def __init__(self, sequences: Sequences[Sequence], lookahead: int):
        """`lookahead`: tokens of a speculation, at most."""
        self.sequences, self.lookahead = list(sequences), lookahead
        self.lengths = [len(sequence.tokens) for sequence in sequences]  # their tokens change when the outcome is known
        self.caches = {sequence: SpeculationCache() for sequence in sequences}
        self.progress = Progress(lookahead + 1)  # the last depth is for the next round: see `Branches`
        self.rollout: Rollout | None = None  # once it is known which branches there are
