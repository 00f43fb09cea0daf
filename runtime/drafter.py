"""The draft's side of a round: speculate just in time, or prepare speculations for the outcomes to come.

Cache rows of a sequence whose bonus token lies at row p: the verified prefix below p, the bonus token and the
speculated chain x_1..x_K at p ... p + K, then depth by depth the branches (see `Branches`). Once the outcome is known,
the rows of the branch that happened move to where they belong.
"""

from __future__ import annotations

from collections.abc import Sequence as Sequences
from dataclasses import dataclass, field

import numpy as np

from saguaro.engine.rows import idle_rows
from saguaro.runtime.branches import Branches, ranking
from saguaro.runtime.draft_side import DraftSide
from saguaro.runtime.preparation import Preparation
from saguaro.runtime.sequence import Sequence
from saguaro.runtime.sessions.device_copy import on_device
from saguaro.runtime.sessions.rollout import Progress, Rollout, roll_out
from saguaro.runtime.sessions.session import Step
from saguaro.runtime.speculation import Choice, Lesson, Outcome, OutcomePolicy, Prepared, Ranked, Speculation

PADDING = Outcome(0, 0)  # computed for nothing, where another sequence has more outcomes


@dataclass
class DraftState:
    """What the draft knows of one sequence. `processed`: KV rows that hold its tokens and then its chain."""

    processed: int = 0
    after_hit: bool = False  # whether the chain was prepared
    chain: list[int] = field(default_factory=list)
    ranked: list[Ranked] = field(default_factory=list)  # after the bonus token, x_1, ...: as far as processed
    branches: Branches | None = None  # of the last preparation


class Drafter(DraftSide[DraftState, OutcomePolicy]):
    """Speculates chains."""

    state = DraftState

    def settle(self, sequence: Sequence, bonus_row: int, outcome: Outcome, hit: Prepared | None) -> None:
        state = self.states[sequence]
        if len(state.ranked) > len(state.chain):
            lesson = Lesson(state.ranked, Speculation.chain(state.chain), outcome, state.after_hit)
            self.unlearned.append((self.policy(sequence), lesson))
        state.processed = min(state.processed, bonus_row)
        state.chain, state.ranked, state.after_hit = [], [], hit is not None
        if hit and state.branches:
            state.chain = list(hit.speculation.tokens)
            depths = range(min(len(state.chain) + 1, state.branches.computed(hit.branch)))
            self.session.move_rows(sequence.slot, [state.branches.row(hit.branch, d) for d in depths], bonus_row)
            state.processed = bonus_row + len(depths)
            state.ranked = [state.branches.ranked(hit.branch, d) for d in depths]

    def take(self, sequence: Sequence, chain: list[int]) -> None:
        state = self.states[sequence]
        state.chain, state.ranked = chain, []

    def shorten(self, sequence: Sequence, bonus_row: int, lookahead: int) -> None:
        state = self.states[sequence]
        state.chain, state.ranked = state.chain[:lookahead], state.ranked[: lookahead + 1]
        state.processed = min(state.processed, bonus_row + 1 + lookahead)

    def draft(self, sequences: list[Sequence], wanted: set[Sequence], lookahead: int) -> dict[Sequence, Speculation]:
        states = [self.states[sequence] if sequence in wanted else None for sequence in sequences]
        for state in states:
            if state:
                state.chain, state.ranked = [], []
        lengths = [len(sequence.tokens) for sequence in sequences]
        self.come_near(sequences, states, lengths)
        chains: list[list[int]] = [[] for _ in sequences]
        first = self._pending(sequences, states, lengths)
        if max(map(len, first)) > 1:  # else what is to be caught up with is the first step of the chain
            first = chains = [[int(row.tokens[0])] for row in self._catch_up(sequences, states, lengths)]
        depths = lookahead - len(chains[0])
        if depths:
            step = self._step(sequences, [tokens or [0] for tokens in first], states)
            rollout = self._rollout(sequences, step, states, [1] * depths, 1)
            roll_out(self.session, rollout)
            for b, (chain, state) in enumerate(zip(chains, states, strict=True)):
                chain += rollout.tokens[:, b, 0, 0].tolist()
                if state:
                    state.ranked += [ranking(rollout, depth, b, 0) for depth in range(depths)]
                    state.processed += depths
        drafted = {}
        for sequence, state, chain in zip(sequences, states, chains, strict=True):
            if state:
                state.chain = chain
                drafted[sequence] = Speculation.chain(chain)
        return drafted

    def prepare(self, preparation: Preparation) -> None:
        sequences, lengths = preparation.sequences, preparation.lengths
        states = [self.states[sequence] for sequence in sequences]
        self.come_near(sequences, states, lengths)
        if any(state.processed < length + len(state.chain) for state, length in zip(states, lengths, strict=True)):
            self._catch_up(sequences, states, lengths)
        choices = [
            self.policy(sequence).choose(state.ranked, state.chain, state.after_hit)
            for sequence, state in zip(sequences, states, strict=True)
        ]
        widths = _widths(choices, preparation.lookahead, self.taper)
        if not widths:
            return
        step = self._branch_step([length - 1 for length in lengths], choices, widths[0])
        rollout = self._rollout(sequences, step, states, widths, self.lookahead + 2, preparation.progress)
        preparation.rollout = rollout
        for b, (sequence, state, choice) in enumerate(zip(sequences, states, choices, strict=True)):
            state.branches = Branches(rollout, b, preparation.lookahead)
            preparation.caches[sequence].open(choice.outcomes, state.branches.speculation)
        roll_out(self.session, rollout)
        self.learn()

    def _branch_step(self, bonus_rows: list[int], choices: list[Choice], width: int) -> Step:
        """The first token of every branch: after `node` tokens of the chain, the bonus token of its outcome."""
        rows = [choice.outcomes + [PADDING] * (width - len(choice.outcomes)) for choice in choices]
        pairs = np.array(rows)  # [n, B, 2]
        after, first = pairs[:, :, 0], self.lookahead + 1
        visible = np.zeros((len(rows), width, first + width), dtype=bool)
        visible[:, :, :first] = np.arange(first) <= after[:, :, None]  # the bonus token and the chain up to `node`
        visible[:, range(width), range(first, first + width)] = True  # itself
        positions = np.array(bonus_rows)[:, None] + after + 1
        tensors = [on_device(array, self.session.device) for array in (pairs[:, :, 1], positions, visible)]
        return Step(tensors[0], tensors[1], bonus_rows, tensors[2], [row + first for row in bonus_rows])

    def _pending(
        self, sequences: list[Sequence], states: Sequences[DraftState | None], lengths: list[int]
    ) -> list[list[int]]:
        """What has no KV row yet, of each sequence's first `lengths` tokens and of the chain."""
        pending: list[list[int]] = []
        for sequence, state, length in zip(sequences, states, lengths, strict=True):
            known: list[int] = []
            if state:
                ahead = max(0, state.processed - length)
                known = self.known(sequence.tokens[state.processed : length] + state.chain[ahead:])
            pending.append(known)
        return pending

    def _pending_step(
        self, sequences: list[Sequence], states: Sequences[DraftState | None], lengths: list[int]
    ) -> tuple[list[list[int]], Step]:
        """What is pending, and the step that computes it, filled up to the longest."""
        pending = self._pending(sequences, states, lengths)
        width = max(map(len, pending))
        return pending, self._step(sequences, [tokens + [0] * (width - len(tokens)) for tokens in pending], states)

    def _catch_up(
        self, sequences: list[Sequence], states: Sequences[DraftState | None], lengths: list[int]
    ) -> list[Ranked]:
        """Process what is pending, and give each sequence's candidates after the last of it."""
        pending, step = self._pending_step(sequences, states, lengths)
        width = step.tokens.shape[1]
        rollout = self._rollout(sequences, step, states, [width], width)
        roll_out(self.session, rollout)
        last = []
        for b, (state, tokens, length) in enumerate(zip(states, pending, lengths, strict=True)):
            if state:
                from_bonus = max(0, length - 1 - state.processed)
                state.ranked += [ranking(rollout, 0, b, t) for t in range(from_bonus, len(tokens))]
                state.processed += len(tokens)
            last.append(ranking(rollout, 0, b, max(0, len(tokens) - 1)))
        return last

    def _step(
        self, sequences: list[Sequence], ids: list[list[int]], states: Sequences[DraftState | None]
    ) -> Step:
        """A causal step of `ids` `[n, T]` after each sequence's processed rows. A None state computes for nothing."""
        width = len(ids[0])
        prefix = [state.processed if state else 0 for state in states]
        write = [state.processed if state else self.session.rows - idle_rows(self.lookahead) for state in states]
        positions = np.array(prefix)[:, None] + np.arange(width)
        causal = np.tile(np.tri(width, dtype=bool), (len(ids), 1, 1))
        tensors = [on_device(array, self.session.device) for array in (np.array(ids), positions, causal)]
        return Step(tensors[0], tensors[1], prefix, tensors[2], write, sequences[0].slot)

    def _rollout(
        self,
        sequences: list[Sequence],
        step: Step,
        states: Sequences[DraftState | None],
        widths: list[int],
        span: int,
        progress: Progress | None = None,
    ) -> Rollout:
        """The rollout of `step` with each sequence's noise; `span`: positions that it reaches beyond the prefix."""
        reached = [
            first + span + len(widths) - 1 if state else None
            for state, first in zip(states, step.prefix, strict=True)
        ]
        return self.rollout(sequences, step, reached, widths, progress)


def _widths(choices: list[Choice], lookahead: int, taper: bool) -> list[int]:
    """How many branches each depth computes, where each drafts up to `lookahead` tokens."""
    *drafting, last = (max(row) for row in zip(*(choice.widths for choice in choices), strict=True))
    if not taper:
        return drafting[:1] * lookahead if drafting[0] else []
    return [width for width in (*drafting[:lookahead], min(drafting[lookahead - 1], last)) if width]
