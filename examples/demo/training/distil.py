"""The draft: it learns the target's whole distribution, mostly on text that the target wrote itself.

What counts at temperature 0 is that both models have the same best token, above it that the
distributions are close; so the loss is the divergence plus a part for the target's best token. The
target's last hidden states are computed once and kept; its logits follow from them at little cost.
"""

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from .loop import train
from .model import DRAFT, Llama
from .progress import say

ROWS_PER_PART = 8
PARTS = 2
SHARE_GENERATED = 0.6
WEIGHT_OF_BEST = 0.3


@dataclass(frozen=True)
class Lessons:
    """Rows of T tokens and the target's last hidden states on the first T - 1 of each."""

    rows: Tensor  # [N, T] int64
    states: Tensor  # [N, T - 1, hidden]
    generated: int  # so many rows, the first ones, were written by the target


@torch.no_grad()
def hidden_states(target: Llama, rows: Tensor, workers: int = 2) -> Tensor:
    """The target's normed last hidden states on every token but a row's last."""
    torch.set_num_threads(1)
    with ThreadPoolExecutor(workers, initializer=lambda: torch.set_num_threads(1)) as pool:
        # no_grad holds for one thread only: the target's weights must not require gradients
        return torch.cat(list(pool.map(target.hidden, rows[:, :-1].split(ROWS_PER_PART))))


def distil(target: Llama, lessons: Lessons, minutes: float, checkpoint: Path) -> Llama:
    """Train the draft and return it."""
    torch.manual_seed(0)
    draft = Llama(DRAFT)
    count, generated = len(lessons.rows), lessons.generated
    say(f"{generated} generated rows, {count - generated} of the corpus")

    def loss(tokens: Tensor, states: Tensor) -> Tensor:
        teacher = target.head(states).float().log_softmax(-1)
        student = draft(tokens).float().log_softmax(-1)
        divergence = (teacher.exp() * (teacher - student)).sum(-1).mean()
        best = teacher.argmax(-1)
        return divergence + WEIGHT_OF_BEST * F.nll_loss(student.flatten(0, 1), best.flatten())

    compiled = torch.compile(loss, dynamic=False)

    def loss_of(chosen: Tensor) -> Tensor:
        return compiled(lessons.rows[chosen, :-1], lessons.states[chosen])

    dice = random.Random(0)

    def batches(share: float) -> list[Tensor]:
        parts = []
        for _ in range(PARTS):
            own = round(ROWS_PER_PART * SHARE_GENERATED)
            chosen = [dice.randrange(generated) for _ in range(own)]
            chosen += [dice.randrange(generated, count) for _ in range(ROWS_PER_PART - own)]
            parts.append(torch.tensor(chosen))
        return parts

    train(draft, loss_of, batches, minutes, checkpoint)
    return draft
