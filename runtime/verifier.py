"""The target's side of a round: one forward pass over every sequence's speculation, then who is accepted."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from saguaro.plugins import tree_accept
from saguaro.plugins.tree_accept.reference import walk
from saguaro.runtime.sequence import Sequence
from saguaro.runtime.sessions.device_copy import Staged, on_device
from saguaro.runtime.sessions.rollout import RollingSession, Rollout, rolls_out
from saguaro.runtime.sessions.session import Session, Step
from saguaro.runtime.speculation.tree import Outcome, Speculation

PAD = -1
Walk = tuple[list[int], int]  # the accepted nodes, and the bonus token


class Verifier:
    """Its methods run on the thread that owns the target's session."""

    def __init__(self, session: Session, chunk: int):
        """`chunk`: most prompt tokens in one forward pass."""
        self.session, self.chunk = session, chunk
        self._trees = lru_cache(maxsize=256)(_trees)

    def prefill(self, sequence: Sequence) -> None:
        """Compute the KV rows of the prompt, all but its last token, which the first round takes as its root."""
        prefill(self.session, sequence.tokens[:-1], 0, sequence.slot, self.chunk)

    def verify(self, sequences: list[Sequence], meanwhile: Callable[[], None] | None = None) -> list[Outcome]:
        """Verify the speculations of the sequences, which lie in slots 0, 1, ... in order.

        `meanwhile` is called when the forward pass is about to run: what it starts then works beside the pass,
        and not against the interpreter's lock before it.

        The tokens of a speculation are accepted while they equal the target's own sample under the request's
        noise (coupled verification), so the outcome is the target's own sample whatever was speculated.
        """
        size = max(len(sequence.speculation) for sequence in sequences) + 1
        prefix = [sequence.prefix for sequence in sequences]
        layouts = tuple(sequence.speculation.parents for sequence in sequences)
        trees = self._trees(layouts, size, self.session.device)
        # Lists until all is there: after a forward pass the caches are cold, and each call of numpy's costs ten times
        # what it does in a loop.
        ids = [[s.tokens[-1], *s.speculation.tokens, *[0] * (size - 1 - len(s.speculation))] for s in sequences]
        positions = [[first + d for d in depths] for first, depths in zip(prefix, trees.depths, strict=True)]
        trees.staged.fill([ids, positions])
        step = Step(trees.tokens, trees.positions, prefix, trees.visible, prefix)
        walks = self._walk(sequences, step, trees, meanwhile)
        for b, (path, _) in enumerate(walks):
            if path and path[-1] > len(path):  # a tree's; its accepted path is brought together
                self.session.move_rows(b, [prefix[b] + node for node in path], prefix[b] + 1)
        return [Outcome(path[-1] if path else 0, bonus) for path, bonus in walks]

    def _walk(
        self, sequences: list[Sequence], step: Step, trees: Trees, meanwhile: Callable[[], None] | None
    ) -> list[Walk]:
        """Run the step and find each sequence's accepted nodes."""
        if rolls_out(self.session) and all(sequence.logprobs is None and is_plain(sequence) for sequence in sequences):
            return self._walk_samples(self.session, sequences, step, meanwhile)
        return self._walk_logits(sequences, step, trees, meanwhile)

    def _walk_samples(
        self, session: RollingSession, sequences: list[Sequence], step: Step, meanwhile: Callable[[], None] | None
    ) -> list[Walk]:
        """Where the session can rank tokens itself, logits need not leave it: only the sample at every node does.

        These are the samples that `tree_accept` would draw, to the bit (tests/runtime/test_verifier.py).
        """
        noises = [sequence.noise(session.vocab_size, session.device) for sequence in sequences]
        rows = [
            noise.reach(first + 1, first + step.tokens.shape[1]) if noise else None
            for noise, first in zip(noises, step.prefix, strict=True)
        ]
        width = step.tokens.shape[1]
        rollout = Rollout(step, rows, [width], candidates=1, vocab_size=session.vocab_size, meanwhile=meanwhile)
        session.roll_out(rollout)
        samples = rollout.tokens[0, :, :, 0].tolist()
        return [
            walk(lambda node, _, row=row: row[node], [PAD, *s.speculation.tokens], [PAD, *s.speculation.parents])
            for s, row in zip(sequences, samples, strict=True)
        ]

    def _walk_logits(
        self, sequences: list[Sequence], step: Step, trees: Trees, meanwhile: Callable[[], None] | None
    ) -> list[Walk]:
        if meanwhile:
            meanwhile()
        logits = self.session.forward(step)
        params = [sequence.params for sequence in sequences]
        path, length, bonus = tree_accept(
            logits,
            step.tokens.where(trees.real, PAD),
            trees.parents,
            [sequence.seed for sequence in sequences],
            step.prefix,
            [p.temperature for p in params],
            [p.top_k for p in params],
            [p.top_p for p in params],
            [p.min_p for p in params],
        )
        found = torch.cat([length.unsqueeze(1), bonus.unsqueeze(1), path], dim=1).tolist()  # all that is waited for
        walks = [(row[2 : 2 + row[0]], row[1]) for row in found]
        for b, (sequence, (accepted, last)) in enumerate(zip(sequences, walks, strict=True)):
            if sequence.logprobs is not None:
                sequence.logprobs += logprobs_of(logits[b], [0, *accepted], sequence, last)
        return walks


def is_plain(sequence: Sequence) -> bool:
    """Whether no filter stands between the logits and the sample."""
    params = sequence.params
    return params.temperature == 0 or (params.top_k in (0, -1) and params.top_p == 1 and params.min_p == 0)


class Trees(NamedTuple):
    """The trees of a batch, the root first and padded to N nodes."""

    staged: Staged  # of the two that follow, which each round fills
    tokens: torch.Tensor  # [n, N] int64
    positions: torch.Tensor  # [n, N] int64
    depths: list[list[int]]  # [n][N]
    parents: torch.Tensor  # [n, N] int64
    real: torch.Tensor  # [n, N] bool: not padding
    visible: torch.Tensor  # [n, N, N] bool: which nodes each sees; padding sees itself alone


def _trees(layouts: tuple[tuple[int, ...], ...], size: int, device: torch.device) -> Trees:
    """Of the trees whose nodes have these parents."""
    parents, depths = [], []
    real, visible = np.zeros((len(layouts), size), dtype=bool), np.tile(np.eye(size, dtype=bool), (len(layouts), 1, 1))
    for b, layout in enumerate(layouts):
        tree, padding = Speculation((0,) * len(layout), layout), [0] * (size - 1 - len(layout))
        parents.append([-1, *layout, *padding])
        depths.append([*tree.depths(), *padding])
        nodes = len(layout) + 1
        real[b, :nodes] = True
        visible[b, :nodes, :nodes] = tree.ancestors()
    staged = Staged((2, len(layouts), size), device)
    tokens, positions = staged.tensor.unbind()
    fixed = [on_device(array, device) for array in (parents, real, visible)]
    return Trees(staged, tokens, positions, depths, *fixed)


def logprobs_of(logits: torch.Tensor, nodes: list[int], sequence: Sequence, bonus: int) -> list[dict[int, float]]:
    """For the tokens sampled at `nodes`: their own log-probability and those of the likeliest tokens."""
    sampled = [sequence.speculation.tokens[node - 1] for node in nodes[1:]] + [bonus]
    table = torch.log_softmax(logits[nodes].float(), dim=-1)
    top = table.topk(min(max(1, sequence.params.logprobs or 0), table.shape[-1]), dim=-1)
    result = []
    for row, token in enumerate(sampled):
        entry = {token: float(table[row, token])}
        for value, other in zip(top.values[row].tolist(), top.indices[row].tolist(), strict=True):
            if sequence.params.logprobs:
                entry.setdefault(other, value)
        result.append(entry)
    return result


def prefill(session: Session, tokens: list[int], start: int, slot: int, chunk: int) -> torch.Tensor | None:
    """Compute the KV rows `start ... start + len(tokens) - 1` of a slot, in chunks.

    Gives the logits `[V]` after the last token; None when there are no tokens.
    """
    logits = None
    for first in range(0, len(tokens), chunk):
        part = tokens[first : first + chunk]
        row = start + first
        ids = on_device([part], session.device)
        positions = torch.arange(row, row + len(part), device=session.device).unsqueeze(0)
        causal = torch.ones(len(part), len(part), dtype=torch.bool, device=session.device).tril().unsqueeze(0)
        logits = session.forward(Step(ids, positions, [row], causal, [row], first_slot=slot))[0, -1]
    return logits
