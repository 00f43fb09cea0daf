"""The target: next-token prediction on the corpus."""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from .loop import train
from .model import TARGET, Llama
from .windows import WindowSampler

SHORT, LONG = 256, 1024  # window lengths; the long ones come last, for the positions beyond the short
SHARE_OF_LONG = 0.15
STEP_TOKENS = 8192
PARTS = 4


def windows_for(sampler: WindowSampler, share: float) -> list[Tensor]:
    """One step's windows (each with one more token than it trains on), in equal parts."""
    length = LONG if share >= 1 - SHARE_OF_LONG else SHORT
    return list(sampler.draw(STEP_TOKENS // length, length + 1).chunk(PARTS))


def pretrain(sampler: WindowSampler, minutes: float, checkpoint: Path) -> Llama:
    """Train the target and return it."""
    torch.manual_seed(0)
    model = Llama(TARGET)

    def loss(batch: Tensor) -> Tensor:
        logits = model(batch[:, :-1]).float()
        return F.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())

    train(
        model,
        torch.compile(loss, dynamic=False),
        lambda share: windows_for(sampler, share),
        minutes,
        checkpoint,
    )
    return model
