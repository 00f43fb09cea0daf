"""The draft's side of a round: speculate just in time, or prepare speculations for the outcomes to come.

Cache rows of a sequence whose bonus token lies at row p: the verified prefix below p, the bonus token and the
speculated chain x_1..x_K at p ... p + K, then depth by depth the branches: branch i's token of depth d is in row
p + K + 1 + d * B + i. Once the outcome is known, the rows of the branch that happened move to where they belong.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Sequences
from dataclasses import dataclass, field

import torch

from saguaro.engine.rows import IDLE_ROWS
from saguaro.runtime.draft_scores import DraftScores
from saguaro.runtime.sequence import Sequence
from saguaro.runtime.sessions.session import Session, Step
from saguaro.runtime.speculation import (
    Outcome,
    OutcomePolicy,
    Prepared,
    Ranked,
    Speculation,
    SpeculationCache,
)
from saguaro.runtime.verifier import prefill


@dataclass
class DraftState:
    """What the draft knows of one sequence. `processed`: KV rows that hold its tokens and then its chain."""

    scores: DraftScores
    processed: int = 0
    chain: list[int] = field(default_factory=list)
    chain_scores: list[torch.Tensor] = field(default_factory=list)  # [V] each: after the bonus token, x_1, ...
    branch_scores: list[torch.Tensor] = field(default_factory=list)  # [B, V] each: after depth 0, 1, ...
    ranked: list[Ranked] = field(default_factory=list)  # candidates after the bonus token, x_1, ...


class Drafter:
    """Its methods run on the thread that owns the draft's session; sequences lie in slots 0, 1, ... in order."""

    def __init__(
        self,
        session: Session,
        *,
        lookahead: int,
        budget: int,
        policy: Callable[[Sequence], OutcomePolicy],
        chunk: int,
        vocab_size: int,
    ):
        """`policy` gives the outcome policy for a sequence; `vocab_size` is the target's, which may differ from
        the draft's by padding."""
        self.session, self.lookahead, self.budget = session, lookahead, budget
        self.policy, self.chunk = policy, chunk
        self.vocab_size = min(vocab_size, session.vocab_size)
        self.states: dict[Sequence, DraftState] = {}
        device = session.device
        # A branch sees its own row of every depth so far.
        self._own = torch.eye(budget, dtype=torch.bool, device=device).repeat(1, lookahead)
        self._columns = torch.arange(lookahead + 1, device=device)

    def prefill(self, sequence: Sequence) -> None:
        """Compute the prompt's KV rows, all but its last token's."""
        self.states[sequence] = DraftState(DraftScores(sequence, self.vocab_size, self.session.device))
        prefill(self.session, self._known(sequence.tokens[:-1]), 0, sequence.slot, self.chunk)
        self.states[sequence].processed = len(sequence.tokens) - 1

    def release(self, sequence: Sequence) -> None:
        self.states.pop(sequence, None)

    def settle(self, sequence: Sequence, bonus_row: int, outcome: Outcome, hit: Prepared | None) -> None:
        """Let the KV cache follow an outcome whose bonus token comes to lie in `bonus_row`: keep what it confirmed,
        and on a hit bring the branch's rows to where they belong."""
        state = self.states[sequence]
        if state.ranked:
            self.policy(sequence).learn(state.ranked, state.chain, outcome)
            state.ranked = []
        old_bonus_row = bonus_row - outcome.node - 1
        state.processed = min(state.processed, bonus_row)
        if hit is None:
            state.chain, state.chain_scores = [], []
            return
        chain = list(hit.speculation.tokens)
        rows = [old_bonus_row + self.lookahead + 1 + d * self.budget + hit.branch for d in range(len(chain))]
        self.session.move_rows(sequence.slot, rows, bonus_row)
        state.processed = bonus_row + len(chain)
        state.chain = chain
        state.chain_scores = [scores[hit.branch] for scores in state.branch_scores[: len(chain)]]

    def draft(self, sequences: list[Sequence], wanted: set[Sequence]) -> dict[Sequence, Speculation]:
        """Speculate just in time for the `wanted` ones: a chain of K tokens after each one's last token."""
        states = [self.states[sequence] if sequence in wanted else None for sequence in sequences]
        for state in states:
            if state:
                state.chain, state.chain_scores = [], []
        scores = self._catch_up(sequences, states, [len(sequence.tokens) for sequence in sequences])
        drafted: list[torch.Tensor] = []
        for depth in range(self.lookahead):
            for row, state in zip(scores, states, strict=True):
                if state:
                    state.chain_scores.append(row)
            drafted.append(argmax(scores).unsqueeze(1))
            if depth + 1 < self.lookahead:
                scores = self._step(drafted[-1], states, [1] * len(states))
        chains = torch.cat(drafted, dim=1).tolist()
        result = {}
        for sequence, state, chain in zip(sequences, states, chains, strict=True):
            if state:
                state.chain = chain
                result[sequence] = Speculation.chain(chain)
        return result

    def prepare(
        self, sequences: list[Sequence], lengths: list[int], caches: dict[Sequence, SpeculationCache]
    ) -> None:
        """Draft up to K tokens after each outcome thought likely of the verification under way.

        `lengths` are the sequences' numbers of tokens when that verification began. The draft stops when the caches
        are closed.
        """
        states = [self.states[sequence] for sequence in sequences]
        open_caches = [caches[sequence] for sequence in sequences]
        last = self._catch_up(sequences, states, lengths)
        outcomes: list[list[Outcome]] = []
        for sequence, state, scores, cache in zip(sequences, states, last, open_caches, strict=True):
            state.chain_scores.append(scores)
            outcomes.append(self._outcomes(sequence, state))
            cache.open(outcomes[-1])
        self._branches([length - 1 for length in lengths], states, outcomes, open_caches)

    def _outcomes(self, sequence: Sequence, state: DraftState) -> list[Outcome]:
        policy = self.policy(sequence)
        scores = torch.stack(state.chain_scores)
        top = scores.topk(min(policy.depth(len(state.chain)), scores.shape[-1]), dim=-1)
        state.ranked = [Ranked(*row) for row in zip(top.indices.tolist(), top.values.tolist(), strict=True)]
        return policy.choose(state.ranked, state.chain)

    def _branches(
        self,
        bonus_rows: list[int],
        states: list[DraftState],
        outcomes: list[list[Outcome]],
        caches: list[SpeculationCache],
    ) -> None:
        """All branches of all sequences, one batched forward per depth, until K tokens or the caches are closed."""
        device, budget = self.session.device, self.budget
        padded = [row + [Outcome(0, 0)] * (budget - len(row)) for row in outcomes]
        pairs = torch.tensor(padded, device=device)  # [n, B, 2]: after which node, and the token
        after, tokens = pairs.unbind(-1)
        positions = after + torch.tensor(bonus_rows, device=device).unsqueeze(1) + 1
        chain = self._columns <= after.unsqueeze(-1)  # [n, B, K + 1]: the bonus token and the chain up to k
        visible = torch.cat([chain, self._own.expand(len(states), -1, -1)], dim=-1)
        deepest = [max(outcome.node for outcome in row) for row in padded]
        for state in states:
            state.branch_scores = []
        for depth in range(self.lookahead):
            if caches[0].closed:
                break
            first = self.lookahead + 1 + depth * budget
            step = Step(
                tokens, positions + depth, bonus_rows, visible[:, :, : first + budget],
                [row + first for row in bonus_rows],
            )  # fmt: skip
            logits = self.session.forward(step)[..., : self.vocab_size]
            scores = [
                state.scores.perturb(logits[i], bonus_rows[i] + 2 + depth, after[i], deepest[i])
                for i, state in enumerate(states)
            ]
            for state, rows in zip(states, scores, strict=True):
                state.branch_scores.append(rows)
            tokens = argmax(scores)
            for cache, row in zip(caches, tokens.tolist(), strict=True):
                cache.extend(row)

    def _catch_up(
        self, sequences: list[Sequence], states: Sequences[DraftState | None], lengths: list[int]
    ) -> list[torch.Tensor]:
        """Process what has no KV row yet, of each sequence's first `lengths` tokens and of the chain; scores `[V]` of
        what comes after the last of it, for each."""
        pending: list[list[int]] = []
        for sequence, state, length in zip(sequences, states, lengths, strict=True):
            known: list[int] = []
            if state:
                ahead = max(0, state.processed - length)
                known = self._known(sequence.tokens[state.processed : length] + state.chain[ahead:])
            pending.append(known)
        width = max(map(len, pending))
        ids = torch.tensor([tokens + [0] * (width - len(tokens)) for tokens in pending], device=self.session.device)
        return self._step(ids, states, [len(tokens) for tokens in pending])

    def _step(self, ids: torch.Tensor, states: Sequences[DraftState | None], lengths: list[int]) -> list[torch.Tensor]:
        """A causal step of `ids` `[n, T]`, of which `lengths` tokens count, after each sequence's processed rows.

        Gives scores `[V]` of what comes after each one's last token. A None state computes for nothing.
        """
        device, width = self.session.device, ids.shape[1]
        prefix = [state.processed if state else 0 for state in states]
        write = [state.processed if state else self.session.rows - IDLE_ROWS for state in states]
        positions = torch.tensor(prefix, device=device).unsqueeze(1) + torch.arange(width, device=device)
        causal = torch.ones(width, width, dtype=torch.bool, device=device).tril_().expand(len(states), -1, -1)
        logits = self.session.forward(Step(ids, positions, prefix, causal, write))[..., : self.vocab_size]
        scores = []
        for i, (state, length) in enumerate(zip(states, lengths, strict=True)):
            row = logits[i, max(length, 1) - 1]
            if state:
                state.processed += length
                row = state.scores.perturb(row, state.processed)
            scores.append(row)
        return scores

    def _known(self, tokens: list[int]) -> list[int]:
        """A padding token of the target's vocabulary that the draft has no row for stands as token 0."""
        return [token if token < self.session.vocab_size else 0 for token in tokens]


def argmax(scores: torch.Tensor | list[torch.Tensor]) -> torch.Tensor:
    """Over the last axis. On a CPU numpy's is several times torch's."""
    if isinstance(scores, list):
        return torch.stack([argmax(row) for row in scores])
    if scores.device.type == "cpu":
        return torch.as_tensor(scores.numpy().argmax(-1))
    return scores.argmax(-1)
