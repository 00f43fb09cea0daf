"""The draft's side of a round under `verification: rejection`: chains are sampled, and q is handed over with them.

The KV rows are those of `Drafter`. Every branch gets all K tokens: how many are proposed must not depend on timing,
or a seed would not reproduce its output.
"""

from __future__ import annotations

from collections.abc import Sequence as Sequences
from typing import Any

import torch

from saguaro.runtime.branches import Branches
from saguaro.runtime.drafter import Drafter, DraftState
from saguaro.runtime.preparation import Preparation
from saguaro.runtime.proposals import Proposals
from saguaro.runtime.sequence import Sequence
from saguaro.runtime.sessions.device_copy import OnHost
from saguaro.runtime.sessions.rollout import Rollout, next_step
from saguaro.runtime.sessions.session import Step
from saguaro.runtime.speculation import Outcome, Prepared, Ranked, Speculation
from saguaro.runtime.speculation.cache import Drafted
from saguaro.runtime.speculation.rejection import DrawnChain


class SampledBranches(Branches):
    """Branches with the draft's distributions: `rows[d]` `[w, V']` after what depth d computed."""

    def __init__(self, rollout: Rollout, place: int, lookahead: int, rows: list[torch.Tensor], proposals: Proposals):
        super().__init__(rollout, place, lookahead)
        self._distributions, self._proposals = rows, proposals

    def speculation(self, branch: int) -> Drafted:
        return chain(self.drafted(branch), self.rows(branch), self._proposals), ()

    def rows(self, branch: int) -> list[torch.Tensor]:
        return [depth[branch] for depth in self._distributions]


def chain(tokens: list[int], rows: list[torch.Tensor], proposals: Proposals) -> Speculation:
    """A chain of `tokens`, the i-th drawn after `rows[i]`."""
    if proposals.greedy:
        return Speculation.chain(tokens)
    return DrawnChain(tuple(tokens), tuple(range(len(tokens))), proposals.drawn_from(torch.stack(rows)))


class RejectionDrafter(Drafter):
    """Samples chains. Its outcomes are ranked by the coins of the round under verification."""

    public_coins = True

    def __init__(self, *args: Any, top: int = 1, weight: float = 1.0, **options: Any):
        """`top` and `weight`: F and C of Saguaro sampling. The others are `Drafter`'s."""
        super().__init__(*args, **options)
        self.top, self.weight = top, weight
        self.rows: dict[Sequence, list[torch.Tensor]] = {}  # after the bonus token, x_1, ...: as far as processed

    def enter(self, sequence: Sequence) -> None:
        super().enter(sequence)
        self.rows[sequence] = []

    def release(self, sequence: Sequence) -> None:
        super().release(sequence)
        self.rows.pop(sequence, None)

    def settle(self, sequence: Sequence, bonus_row: int, outcome: Outcome, hit: Prepared | None) -> None:
        state = self.states[sequence]
        super().settle(sequence, bonus_row, outcome, hit)
        branches, state.branches, state.ranked = state.branches, None, []  # the next round's coins rank anew
        self.rows[sequence] = branches.rows(hit.branch) if hit and isinstance(branches, SampledBranches) else []

    def take(self, sequence: Sequence, chain: list[int]) -> None:
        super().take(sequence, chain)
        self.rows[sequence] = []

    def shorten(self, sequence: Sequence, bonus_row: int, lookahead: int) -> None:
        raise NotImplementedError("how many tokens are proposed must not depend on timing")

    def draft(self, sequences: list[Sequence], wanted: set[Sequence], lookahead: int) -> dict[Sequence, Speculation]:
        states = [self.states[sequence] if sequence in wanted else None for sequence in sequences]
        for sequence in wanted:
            self.take(sequence, [])
        lengths = [len(sequence.tokens) for sequence in sequences]
        self._catch_up(sequences, states, lengths)
        proposals = [self._proposals(sequence) for sequence in sequences]
        depths = range(lookahead)
        idle: list[torch.Tensor | None] = [None] * lookahead
        noise = [
            one.noise([length - 1], depths, self.vocab_size, self.session.device) if state else idle
            for one, state, length in zip(proposals, states, lengths, strict=True)
        ]
        first = [
            int(one.tokens(self.rows[sequence][-1].unsqueeze(0), drawn_by[0])) if state else 0
            for sequence, state, one, drawn_by in zip(sequences, states, proposals, noise, strict=True)
        ]
        step = self._step(sequences, [[token] for token in first], states)
        rollout, rows = self._sample(proposals, step, [later[1:] for later in noise], lookahead - 1)
        drafted = {}
        for b, (sequence, state) in enumerate(zip(sequences, states, strict=True)):
            if state:
                state.chain = [first[b], *rollout.tokens[:, b, 0, 0].tolist()]
                state.processed += lookahead - 1
                self.rows[sequence] += [depth[0] for depth in rows[b]]
                drafted[sequence] = chain(state.chain, self.rows[sequence], proposals[b])
        return drafted

    def prepare(self, preparation: Preparation) -> None:
        sequences, lengths = preparation.sequences, preparation.lengths
        states = [self.states[sequence] for sequence in sequences]
        if any(state.processed < length + len(state.chain) for state, length in zip(states, lengths, strict=True)):
            self._catch_up(sequences, states, lengths)
        proposals = [self._proposals(sequence) for sequence in sequences]
        for sequence, state, one, length in zip(sequences, states, proposals, lengths, strict=True):
            count = min(self.vocab_size, self.policy(sequence).candidates())
            state.ranked = one.ranked(
                torch.stack(self.rows[sequence]), state.chain, length - 1, count, self.public_coins
            )
        choices = [
            self.policy(sequence).choose(state.ranked, state.chain, state.after_hit)
            for sequence, state in zip(sequences, states, strict=True)
        ]
        width = max(len(choice.outcomes) for choice in choices)
        if not width:
            return
        step = self._branch_step([length - 1 for length in lengths], choices, width)
        rounds = [
            [length + outcome.node for outcome in choice.outcomes] + [length] * (width - len(choice.outcomes))
            for choice, length in zip(choices, lengths, strict=True)
        ]
        noise = [
            one.noise(roots, range(preparation.lookahead), self.vocab_size, self.session.device)
            for one, roots in zip(proposals, rounds, strict=True)
        ]
        rollout, rows = self._sample(proposals, step, noise, preparation.lookahead)
        for b, (sequence, state, choice) in enumerate(zip(sequences, states, choices, strict=True)):
            state.branches = SampledBranches(rollout, b, preparation.lookahead, rows[b], proposals[b])
            preparation.caches[sequence].open(choice.outcomes, state.branches.speculation)
        self.learn()

    def _sample(
        self, proposals: list[Proposals], step: Step, noise: list[list[torch.Tensor | None]], depths: int
    ) -> tuple[Rollout, list[list[torch.Tensor]]]:
        """Continue each row of the step by `depths` sampled tokens, under each sequence's noise for them.

        Gives the tokens as a rollout, and for each sequence the rows `[w, V']` that those of each depth were drawn
        from.
        """
        widths = [step.tokens.shape[1]] * depths
        rollout = Rollout(step, [], widths, candidates=1, vocab_size=self.vocab_size)
        rows: list[list[torch.Tensor]] = [[] for _ in proposals]
        found = []
        for depth in range(depths):
            logits = self.session.forward(step)[..., : self.vocab_size]
            for own, one, row in zip(rows, proposals, logits, strict=True):
                own.append(one.rows(row))
            drawn = [
                one.tokens(own[depth], drawn_by[depth])
                for one, own, drawn_by in zip(proposals, rows, noise, strict=True)
            ]
            found.append(OnHost(torch.stack(drawn)))
            step = next_step(step, torch.stack(drawn))
        for depth, tokens in enumerate(found):
            rollout.tokens[depth, :, :, 0] = tokens.get()[0]
        rollout.progress.drafted = depths
        return rollout, rows

    def _catch_up(
        self, sequences: list[Sequence], states: Sequences[DraftState | None], lengths: list[int]
    ) -> list[Ranked]:
        """Process what is pending. The candidates are ranked later, by the coins."""
        pending, step = self._pending_step(sequences, states, lengths)
        logits = self.session.forward(step)[..., : self.vocab_size]
        for b, (sequence, state, tokens) in enumerate(zip(sequences, states, pending, strict=True)):
            if state and tokens:
                from_bonus = max(0, lengths[b] - 1 - state.processed)
                self.rows[sequence] += self._proposals(sequence).rows(logits[b, from_bonus : len(tokens)]).unbind(0)
                state.processed += len(tokens)
        return []

    def _proposals(self, sequence: Sequence) -> Proposals:
        return Proposals(sequence, self.top, self.weight)
