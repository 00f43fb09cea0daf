"""Drafting several tokens in a row: each row of a step is continued by its own best token, depth by depth."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Protocol, TypeGuard

import numpy as np
import torch

from saguaro.runtime.sessions.device_copy import OnHost
from saguaro.runtime.sessions.session import Session, Step


@dataclass(frozen=True)
class Noise:
    """What is added to one sequence's logits: `rows[j]` to those of the token at position `first + j`."""

    rows: torch.Tensor  # [P, V'] float32, V' at least the vocabulary
    first: int
    scale: float  # 1 / temperature, the factor of the logits


class Progress:
    """How many depths are drafted, and how many are wanted; one thread drafts, another looks on and may stop it."""

    def __init__(self, depths: int):
        self.values = array("i", [0, depths])  # native code reads and writes them in place

    @property
    def drafted(self) -> int:
        return self.values[0]

    @drafted.setter
    def drafted(self, depths: int) -> None:
        self.values[0] = depths

    @property
    def wanted(self) -> int:
        return self.values[1]

    def stop_after(self, depths: int) -> None:
        """No more than `depths`; a depth that is under way ends."""
        self.values[1] = min(self.wanted, depths)


class Rollout:
    """One rollout, and what it has found so far.

    Depth 0 computes `step`. Depth d > 0 computes, for each of the first `widths[d]` rows, the best token found at
    depth d - 1; it sees what its row saw and its own row of every depth before. KV rows follow the step's, depth by
    depth.
    """

    def __init__(
        self,
        step: Step,
        noise: list[Noise | None],
        widths: list[int],
        *,
        candidates: int,
        vocab_size: int,
        progress: Progress | None = None,
        meanwhile: Callable[[], None] | None = None,
    ):
        """
        Args:
            step: n sequences of W tokens.
            noise: of each sequence; None at temperature 0.
            widths: rows that are computed at each depth, at least one, never more than at the one before;
                `widths[0]` is W.
            candidates: how many of the best tokens of each row are kept.
            vocab_size: the first so many logits count.
            meanwhile: called when all is ready and the first forward pass is next: what it starts then works beside
                the pass, and not against the interpreter's lock before it.
        """
        count, width = step.tokens.shape
        self.step, self.noise, self.widths, self.vocab_size = step, noise, widths, vocab_size
        self.meanwhile = meanwhile
        shape = (len(widths), count, width, candidates)
        cells, self.candidates = len(widths) * count * width * candidates, candidates
        self.timed = cells + (cells + 1) // 2  # where in the memory the times lie
        self.memory = array("d", bytes(8 * (self.timed + 2 * len(widths))))  # in one piece, for native code
        self.tokens = np.frombuffer(self.memory, np.int64, cells).reshape(shape)  # best first
        self.scores = np.frombuffer(self.memory, np.float32, cells, 8 * cells).reshape(shape)
        self.progress = progress or Progress(len(widths))

    @property
    def step_seconds(self) -> float:
        """Of the last depth that is done; 0.0 before."""
        if not self.progress.drafted:
            return 0.0
        start, end = self.times(self.progress.drafted - 1)
        return end - start

    def times(self, depth: int) -> tuple[float, float]:
        """When the depth's forward pass began and ended, as `perf_counter` has it."""
        at = self.timed + 2 * depth
        return self.memory[at], self.memory[at + 1]

    def note_times(self, depth: int, start: float, end: float) -> None:
        at = self.timed + 2 * depth
        self.memory[at], self.memory[at + 1] = start, end


class RollingSession(Session, Protocol):
    """A session that runs rollouts by itself."""

    def roll_out(self, rollout: Rollout) -> None: ...


def rolls_out(session: Session) -> TypeGuard[RollingSession]:
    return hasattr(session, "roll_out")


def roll_out(session: Session, rollout: Rollout) -> None:
    """Run a rollout until its widths or what is wanted of it end. Results are there as soon as they are counted."""
    if rolls_out(session):
        session.roll_out(rollout)
    else:
        roll_out_stepwise(session, rollout)


def roll_out_stepwise(session: Session, rollout: Rollout) -> None:
    """With one call of the session for each depth. On a GPU the next is queued before this one's tokens are read."""
    step, progress = rollout.step, rollout.progress
    if rollout.meanwhile:
        rollout.meanwhile()
    unread: tuple[int, float, OnHost] | None = None
    for depth in range(len(rollout.widths)):
        if depth >= progress.wanted:
            break
        start = perf_counter()
        scores, tokens = _best(session.forward(step), step, rollout)
        if unread:
            _note(rollout, *unread)
        unread = (depth, start, OnHost(tokens, scores))
        if not unread[2].on_its_way:
            _note(rollout, *unread)
            unread = None
        if depth + 1 < len(rollout.widths):
            step = next_step(step, tokens[:, : rollout.widths[depth + 1], 0])
    if unread:
        _note(rollout, *unread)


def _best(logits: torch.Tensor, step: Step, rollout: Rollout) -> tuple[torch.Tensor, torch.Tensor]:
    """The candidates' scores and tokens, `[n, w, candidates]` each."""
    scores = logits[..., : rollout.vocab_size]
    if any(rollout.noise):
        perturbed = []
        for row, positions, noise in zip(scores, step.positions, rollout.noise, strict=True):
            own = noise.rows[positions + 1 - noise.first, : rollout.vocab_size] + row * noise.scale if noise else row
            perturbed.append(own)
        scores = torch.stack(perturbed)
    best = scores.topk(rollout.candidates, dim=-1)
    return best.values, best.indices


def _note(rollout: Rollout, depth: int, start: float, found: OnHost) -> None:
    width = rollout.widths[depth]
    rollout.tokens[depth, :, :width], rollout.scores[depth, :, :width] = found.get()
    rollout.note_times(depth, start, perf_counter())
    rollout.progress.drafted = depth + 1


def next_step(step: Step, tokens: torch.Tensor) -> Step:
    """One token `[n, w]` more for each of the first w rows of `step`, in the KV rows after its own."""
    width, done = tokens.shape[1], step.tokens.shape[1]
    own = torch.eye(width, dtype=torch.bool, device=tokens.device).expand(len(tokens), -1, -1)
    return Step(
        tokens,
        step.positions[:, :width] + 1,
        step.prefix,
        torch.cat([step.visible[:, :width], own], dim=-1),
        [row + done for row in step.write_index],
        step.first_slot,
    )
