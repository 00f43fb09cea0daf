"""The draft's side of a round where speculations are token trees (design 3.1, 3.6).

Cache rows of a sequence whose bonus token lies at row p: the verified prefix below p, the bonus token and the
speculation's N nodes at p ... p + N, then layer by layer the trees that are prepared. A layer computes the nodes that
are likeliest to be used, of whatever depth and tree. Once the outcome is known, the accepted path's rows come together,
and behind them those of the tree that happened.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Sequences
from dataclasses import dataclass, field
from functools import partial

from saguaro.engine.rows import idle_rows
from saguaro.runtime.branches import ranking
from saguaro.runtime.draft_side import DraftSide
from saguaro.runtime.grove import Grove, Part, tree_step
from saguaro.runtime.preparation import Preparation
from saguaro.runtime.sequence import Sequence
from saguaro.runtime.sessions.rollout import Rollout, roll_out
from saguaro.runtime.sessions.session import Session
from saguaro.runtime.speculation import Lesson, Outcome, Prepared, Ranked, Speculation
from saguaro.runtime.speculation.adaptive import AdaptivePolicy
from saguaro.runtime.speculation.forest import Forest
from saguaro.runtime.speculation.tree import EMPTY


@dataclass
class TreeState:
    """What the draft knows of one sequence. `processed`: KV rows that hold its tokens and then its speculation."""

    processed: int = 0
    after_hit: bool = False  # whether the speculation was prepared
    speculation: Speculation = EMPTY
    ranked: list[Ranked] = field(default_factory=list)  # after the bonus token, node 1, ...: as far as processed
    grove: Grove | None = None  # of the last preparation


class TreeDrafter(DraftSide[TreeState, AdaptivePolicy]):
    """Speculates trees of up to `nodes` nodes, at least K, on paths of up to K tokens."""

    state = TreeState

    def __init__(
        self,
        session: Session,
        *,
        nodes: int,
        lookahead: int,
        policy: Callable[[Sequence], AdaptivePolicy],
        chunk: int,
        vocab_size: int,
        taper: bool,
    ):
        """See `DraftSide`."""
        super().__init__(
            session, lookahead=lookahead, policy=policy, chunk=chunk, vocab_size=vocab_size, taper=taper
        )
        self.nodes = nodes

    def settle(self, sequence: Sequence, bonus_row: int, outcome: Outcome, hit: Prepared | None) -> None:
        state = self.states[sequence]
        if state.ranked:
            lesson = Lesson(state.ranked, state.speculation, outcome, state.after_hit)
            self.unlearned.append((self.policy(sequence), lesson))
        path = state.speculation.path(outcome.node)
        root = bonus_row - 1 - len(path)
        kept = [root + node for node in path if root + node < state.processed]
        if kept:
            self.session.move_rows(sequence.slot, kept, root + 1)
        state.processed = min(state.processed, root + 1 + len(kept))
        state.speculation, state.ranked, state.after_hit = EMPTY, [], hit is not None
        if hit and state.grove:
            state.speculation = hit.speculation
            nodes = [hit.branch, *(node for node in hit.nodes if node >= 0)]
            self.session.move_rows(sequence.slot, [state.grove.row(node) for node in nodes], bonus_row)
            state.processed = bonus_row + len(nodes)
            state.ranked = [state.grove.ranked[node] for node in nodes]

    def take(self, sequence: Sequence, chain: list[int]) -> None:
        state = self.states[sequence]
        state.speculation, state.ranked = Speculation.chain(chain), []

    def draft(self, sequences: list[Sequence], wanted: set[Sequence], lookahead: int) -> dict[Sequence, Speculation]:
        self.learn()
        states = [self.states[sequence] if sequence in wanted else None for sequence in sequences]
        for state in states:
            if state:
                state.speculation, state.ranked = EMPTY, []
        lengths = [len(sequence.tokens) for sequence in sequences]
        self.come_near(sequences, states, lengths)
        self._catch_up(sequences, states, lengths)
        groves = [
            self._below_the_bonus_token(sequence, state) if state else None
            for sequence, state in zip(sequences, states, strict=True)
        ]
        for _ in range(lookahead - 1):
            width = max(1, self.nodes // lookahead)
            self._compute(sequences, groves, [grove.forest.grow(width, 0.0) if grove else [] for grove in groves])
        drafted = {}
        for sequence, state, grove in zip(sequences, states, groves, strict=True):
            if state and grove:
                speculation, nodes = grove.forest.speculation(0, self.nodes)
                computed = [node for node in nodes if node >= 0]
                if computed:
                    self.session.move_rows(sequence.slot, [grove.row(node) for node in computed], grove.base + 1)
                state.processed += len(computed)
                state.ranked += [grove.ranked[node] for node in computed]
                state.speculation = drafted[sequence] = speculation
        return drafted

    def prepare(self, preparation: Preparation) -> None:
        sequences, lengths, progress = preparation.sequences, preparation.lengths, preparation.progress
        states = [self.states[sequence] for sequence in sequences]
        self.come_near(sequences, states, lengths)
        if any(s.processed < length + len(s.speculation) for s, length in zip(states, lengths, strict=True)):
            self._catch_up(sequences, states, lengths)
        groves = []
        for sequence, state, length in zip(sequences, states, lengths, strict=True):
            outcomes = self.policy(sequence).choose_in_tree(state.ranked, state.speculation, state.after_hit)
            forest = Forest([(outcome.bonus, chance) for outcome, chance in outcomes], preparation.lookahead)
            base = length - 1
            above = [[base + node for node in (0, *state.speculation.path(outcome.node))] for outcome, _ in outcomes]
            state.grove = Grove(forest, base, base + self.nodes + 1, above)
            groves.append(state.grove)
            drafted = partial(forest.speculation, size=self.nodes)
            preparation.caches[sequence].open([outcome for outcome, _ in outcomes], drafted)
        grown = [list(range(len(grove.forest.nodes))) for grove in groves]
        for depth in range(preparation.lookahead + 1):
            if depth >= progress.wanted or not any(grown):
                break
            preparation.rollout = self._compute(sequences, groves, grown, preparation)
            progress.drafted = depth + 1
            grown = [
                grove.forest.grow(self.policy(sequence).budget, self.policy(sequence).worth if self.taper else 0.0)
                for sequence, grove in zip(sequences, groves, strict=True)
            ]
        self.learn()

    def _below_the_bonus_token(self, sequence: Sequence, state: TreeState) -> Grove:
        """A tree whose root is computed already."""
        bonus_row = state.processed - 1
        grove = Grove(Forest([(sequence.tokens[-1], 1.0)], self.lookahead), bonus_row, bonus_row, [[]])
        grove.place([0], 1)
        grove.note(state.ranked[:1], *self.policy(sequence).probabilities(state.ranked[:1], False))
        return grove

    def _compute(
        self,
        sequences: list[Sequence],
        groves: Sequences[Grove | None],
        nodes: list[list[int]],
        preparation: Preparation | None = None,
    ) -> Rollout:
        """Compute these nodes of each sequence's forest. `preparation` shall know that it has begun."""
        width = max(1, *map(len, nodes))
        parts = [grove.place(some, width) if grove else None for grove, some in zip(groves, nodes, strict=True)]
        rollout = self._step(sequences, parts, width)
        if preparation:
            preparation.rollout = preparation.rollout or rollout
        roll_out(self.session, rollout)
        for b, (sequence, grove, some) in enumerate(zip(sequences, groves, nodes, strict=True)):
            if grove and some:
                ranked = [ranking(rollout, 0, b, t) for t in range(len(some))]
                after_hit = preparation is not None  # what is prepared is used only on a hit
                grove.note(ranked, *self.policy(sequence).probabilities(ranked, after_hit))
        return rollout

    def _catch_up(self, sequences: list[Sequence], states: Sequences[TreeState | None], lengths: list[int]) -> None:
        """Process what has no KV row yet, of each sequence's first `lengths` tokens and of its speculation."""
        parts = [
            self._pending(sequence, state, length) if state else None
            for sequence, state, length in zip(sequences, states, lengths, strict=True)
        ]
        width = max(len(part.tokens) for part in parts if part)
        rollout = self._step(sequences, parts, width)
        roll_out(self.session, rollout)
        for b, (state, part, length) in enumerate(zip(states, parts, lengths, strict=True)):
            if state and part:
                from_bonus = max(0, length - 1 - state.processed)
                state.ranked += [ranking(rollout, 0, b, t) for t in range(from_bonus, len(part.tokens))]
                state.processed += len(part.tokens)

    def _pending(self, sequence: Sequence, state: TreeState, length: int) -> Part:
        bonus_row, speculation = length - 1, state.speculation
        prefix = min(state.processed, bonus_row)
        computed = max(0, state.processed - length)
        tokens = [*sequence.tokens[state.processed : length], *speculation.tokens[computed:]]
        seen = [list(range(prefix, row + 1)) for row in range(state.processed, length)]
        for node in range(computed + 1, len(speculation) + 1):
            seen.append([*range(prefix, length), *(bonus_row + above for above in speculation.path(node))])
        return Part(prefix, state.processed, self.known(tokens), seen)

    def _step(self, sequences: list[Sequence], parts: Sequences[Part | None], width: int) -> Rollout:
        """The rollout of one forward pass over the parts."""
        idle_row = self.session.rows - idle_rows(self.nodes)
        reached = [max([part.prefix, *part.positions]) + 1 if part else None for part in parts]
        step = tree_step(parts, width, idle_row, self.session.device, sequences[0].slot)
        return self.rollout(sequences, step, reached, [width])
