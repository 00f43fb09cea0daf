"""What drafting chains and drafting token trees share: the session, the states of the sequences, their noise."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from collections.abc import Sequence as Sequences
from typing import Generic, Protocol, TypeVar

from saguaro.runtime.preparation import Preparation
from saguaro.runtime.sequence import Sequence
from saguaro.runtime.sessions.rollout import Progress, Rollout
from saguaro.runtime.sessions.session import Session, Step
from saguaro.runtime.speculation import Lesson, Outcome, OutcomePolicy, Prepared, Speculation
from saguaro.runtime.verifier import prefill


class Processed(Protocol):
    """What is known of one sequence, made when its prompt is computed."""

    processed: int  # KV rows that hold its tokens

    def __init__(self, processed: int) -> None: ...


LESSONS = 8  # that are learned together: with the caches full of weights, one alone takes nearly as long
S = TypeVar("S", bound=Processed)
P = TypeVar("P", bound=OutcomePolicy)


class DraftSide(ABC, Generic[S, P]):
    """Its methods run on the thread that owns the draft's session; sequences lie in neighbouring slots, in order."""

    state: Callable[[int], S]  # makes the state of a sequence with so many processed tokens

    def __init__(
        self,
        session: Session,
        *,
        lookahead: int,
        policy: Callable[[Sequence], P],
        chunk: int,
        vocab_size: int,
        taper: bool,
    ):
        """
        Args:
            policy: gives the outcome policy for a sequence.
            chunk: most prompt tokens in one forward pass.
            vocab_size: the target's, which may differ from the draft's by padding.
            taper: whether unlikely outcomes get shorter speculations. For a CPU, where every row costs; on a GPU a few
                rows more cost nothing, while every other shape would be a graph of its own.
        """
        self.session, self.lookahead = session, lookahead
        self.policy, self.chunk, self.taper = policy, chunk, taper
        self.target_vocab_size, self.vocab_size = vocab_size, min(vocab_size, session.vocab_size)
        self.states: dict[Sequence, S] = {}
        self.unlearned: list[tuple[P, Lesson]] = []  # what outcomes taught, and whom

    def enter(self, sequence: Sequence) -> None:
        """Know of the sequence. Its prompt is computed when something is to be drafted (`come_near`)."""
        self.states[sequence] = self.state(0)

    def prefill(self, sequence: Sequence) -> None:
        """Enter it, and compute the prompt's KV rows, all but its last token's."""
        self.enter(sequence)
        prefill(self.session, self.known(sequence.tokens[:-1]), 0, sequence.slot, self.chunk)
        self.states[sequence].processed = len(sequence.tokens) - 1

    @abstractmethod
    def settle(self, sequence: Sequence, bonus_row: int, outcome: Outcome, hit: Prepared | None) -> None:
        """Let the KV cache follow an outcome whose bonus token comes to lie in `bonus_row`: keep what it confirmed,
        and on a hit bring the rows of what was prepared to where they belong."""

    @abstractmethod
    def take(self, sequence: Sequence, chain: list[int]) -> None:
        """The target verifies a chain that was not drafted here."""

    def shorten(self, sequence: Sequence, bonus_row: int, lookahead: int) -> None:
        """The target verifies no more than `lookahead` tokens of the chain behind the bonus token in `bonus_row`."""
        raise NotImplementedError("trees are verified whole")

    @abstractmethod
    def draft(self, sequences: list[Sequence], wanted: set[Sequence], lookahead: int) -> dict[Sequence, Speculation]:
        """Speculate just in time up to `lookahead` tokens behind the last one of each of the `wanted` sequences."""

    @abstractmethod
    def prepare(self, preparation: Preparation) -> None:
        """Speculate after each outcome thought likely of the verification under way."""

    def release(self, sequence: Sequence) -> None:
        self.states.pop(sequence, None)
        self.learn(least=1)

    def come_near(self, sequences: list[Sequence], states: Sequences[S | None], lengths: list[int]) -> None:
        """After several rounds that went by without the draft: up to the bonus token, sequence by sequence and in
        chunks, so that no other one computes for nothing beside it, for which the idle rows would not suffice."""
        for sequence, state, length in zip(sequences, states, lengths, strict=True):
            if state and length - 1 - state.processed > self.lookahead + 1:
                missing = self.known(sequence.tokens[state.processed : length - 1])
                prefill(self.session, missing, state.processed, sequence.slot, self.chunk)
                state.processed = length - 1

    def learn(self, least: int = LESSONS) -> None:
        """If there are so many lessons."""
        if len(self.unlearned) >= least:
            for policy in dict.fromkeys(policy for policy, _ in self.unlearned):
                policy.learn([lesson for own, lesson in self.unlearned if own is policy])
            self.unlearned.clear()

    def known(self, tokens: list[int]) -> list[int]:
        """A padding token of the target's vocabulary that the draft has no row for stands as token 0."""
        return [token if token < self.session.vocab_size else 0 for token in tokens]

    def rollout(
        self,
        sequences: list[Sequence],
        step: Step,
        reached: list[int | None],
        widths: list[int],
        progress: Progress | None = None,
    ) -> Rollout:
        """The rollout of `step` with each sequence's noise up to the position `reached`; None: computed for nothing."""
        noises = [sequence.noise(self.target_vocab_size, self.session.device) for sequence in sequences]
        rows = [
            noise.reach(first + 1, last) if noise and last is not None else None
            for noise, last, first in zip(noises, reached, step.prefix, strict=True)
        ]
        candidates = min(self.vocab_size, *(self.policy(sequence).candidates() for sequence in sequences))
        return Rollout(step, rows, widths, candidates=candidates, vocab_size=self.vocab_size, progress=progress)
