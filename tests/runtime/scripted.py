"""Models that are plain functions of the tokens they see, as sessions: the round loop without a network.

A scripted session keeps in its cache, where keys and values would be, which token at which position wrote
each row. A token's logits are a function of the path that its mask lets it see, so a wrong mask, row or
position gives wrong tokens; a path with a gap or a doubled position is an error at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from random import Random
from typing import Any

import torch

from saguaro.engine.rows import draft_rows, idle_rows, target_rows
from saguaro.runtime.drafter import Drafter
from saguaro.runtime.rounds import RoundLoop
from saguaro.runtime.sampling_params import SamplingParams
from saguaro.runtime.sequence import Sequence
from saguaro.runtime.sessions.session import Step
from saguaro.runtime.speculation import outcome_policy
from saguaro.runtime.speculative_rounds import ConcurrentLoop, SpeculativeLoop
from saguaro.runtime.timing import Lane
from saguaro.runtime.tree_drafter import TreeDrafter
from saguaro.runtime.verifier import Verifier
from saguaro.runtime.worker import Worker

CPU = torch.device("cpu")
VOCABULARY = 50
LENGTH = 96
Path = tuple[int, ...]
Ranking = Callable[[Path], list[int]]  # the tokens that are likely after a path, best first


class ScriptedSession:
    def __init__(self, ranking: Ranking, rows: int, slots: int, vocab_size: int = VOCABULARY, idle: int = 0):
        """`idle`: rows at the end that are for sequences which have nothing to compute."""
        self.idle = idle
        self.device, self.vocab_size, self.max_batch_size, self.rows = CPU, vocab_size, slots, rows
        self.ranking = ranking
        self.cache: list[list[tuple[int, int] | None]] = [[None] * rows for _ in range(slots)]

    def forward(self, step: Step) -> torch.Tensor:
        count, width = step.tokens.shape
        logits = torch.zeros(count, width, self.vocab_size)
        for b in range(count):
            rows = self.cache[step.first_slot + b]
            for t in range(width):
                rows[step.write_index[b] + t] = (int(step.tokens[b, t]), int(step.positions[b, t]))
            if step.write_index[b] >= self.rows - self.idle:
                continue
            for t in range(width):
                for rank, token in enumerate(self.ranking(self._path(rows, step, b, t))):
                    logits[b, t, token] = 20.0 - rank
        return logits

    def _path(self, rows: list[tuple[int, int] | None], step: Step, b: int, t: int) -> Path:
        prefix = step.prefix[b]
        seen = [*range(prefix), *(prefix + r for r in step.visible[b, t].nonzero().flatten().tolist())]
        entries = sorted((row[1], row[0]) for row in (rows[r] for r in seen) if row is not None)
        positions = [position for position, _ in entries]
        assert len(entries) == len(seen), "a token sees a row that nothing was written to"
        assert step.write_index[b] + t in seen, "a token does not see itself"
        # Tokens that only fill up the width of a batch may repeat the root's position.
        assert positions == list(range(int(step.positions[b, t]) + 1)), f"not a path: {positions}"
        return tuple(token for _, token in entries)

    def move_rows(self, slot: int, sources: list[int], target: int) -> None:
        moved = [self.cache[slot][row] for row in sources]
        self.cache[slot][target : target + len(sources)] = moved

    def move_slot(self, source: int, target: int) -> None:
        self.cache[target] = list(self.cache[source])

    def close(self) -> None: ...


def truth(path: Path) -> int:
    """The target's next token: depends on every token of the path."""
    return Random(repr(path)).randrange(VOCABULARY)


def target_ranking(path: Path) -> list[int]:
    return [truth(path)]


def draft_ranking(wrong: Callable[[int], bool]) -> Ranking:
    """A draft that errs at the positions that are `wrong`; there the right token is its second choice."""

    def ranking(path: Path) -> list[int]:
        right = truth(path)
        return [(right + 1) % VOCABULARY, right] if wrong(len(path)) else [right, (right + 1) % VOCABULARY]

    return ranking


def serial(prompt: list[int], count: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(truth(tuple(tokens)))
    return tokens[len(prompt) :]


@contextmanager
def scripted_loop(
    mode: str, ranking: Ranking, *, lookahead: int, budget: int = 8, slots: int = 3, chunk: int = 4,
    taper: bool = True, tree_nodes: int = 0,
) -> Iterator[tuple[RoundLoop, ScriptedSession, ScriptedSession]]:
    """A round loop of a mode over a scripted target and a draft of that `ranking`."""
    target = ScriptedSession(target_ranking, target_rows(LENGTH, lookahead, tree_nodes), slots)
    rows, idle = draft_rows(LENGTH, lookahead, budget, tree_nodes), idle_rows(max(lookahead, tree_nodes))
    draft = ScriptedSession(ranking, rows, slots, idle=idle)
    workers = [Worker(name, CPU, 1) for name in ("target", "draft")]
    verifier, policy = Verifier(target, chunk), outcome_policy("adaptive", budget, lookahead)
    kind: Any = partial(TreeDrafter, nodes=tree_nodes) if tree_nodes else Drafter
    drafter = kind(
        draft, lookahead=lookahead, policy=lambda _: policy, chunk=chunk, vocab_size=VOCABULARY, taper=taper
    )
    try:
        if mode == "ar":
            yield RoundLoop(verifier, workers[0], Lane()), target, draft
        else:
            loop = ConcurrentLoop if mode == "ssd" else SpeculativeLoop
            yield loop(verifier, workers[0], Lane(), drafter, workers[1], Lane()), target, draft
    finally:
        for worker in workers:
            worker.close()


def sequence(prompt: list[int], max_tokens: int, stop_tokens: frozenset[int] = frozenset()) -> Sequence:
    return Sequence(list(prompt), SamplingParams(max_tokens=max_tokens, temperature=0), 0, stop_tokens)
