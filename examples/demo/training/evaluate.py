"""What the README reports: held-out loss, acceptance, and that transformers computes the same logits."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from .generate import continue_all
from .model import Llama

CONTINUATION = 128
EARLY = 32  # greedy text of a small model falls into loops, which are easy: so also before they begin
LOOKAHEAD = 5


@torch.no_grad()
def held_out_loss(
    model: Llama, stream: np.ndarray, size_in_bytes: int, window: int = 1024
) -> tuple[float, float]:
    """Nats per token and bits per byte over the whole held-out stream, in windows of `window` tokens."""
    total, count = 0.0, 0
    for start in range(0, len(stream) - 1, window):
        piece = torch.from_numpy(stream[start : start + window + 1].astype(np.int64))
        logits = model(piece[None, :-1])[0].float()
        total += F.cross_entropy(logits, piece[1:], reduction="sum").item()
        count += len(piece) - 1
    return total / count, total / math.log(2) / size_in_bytes


@dataclass(frozen=True)
class Acceptance:
    """How well a draft predicts a target's own greedy continuations."""

    per_token: float
    early: float  # over the first `EARLY` tokens of each continuation alone
    tokens_per_round: float
    texts: list[str]


def rounds(agrees: Sequence[bool], lookahead: int) -> int:
    """Verifications needed for a continuation.

    A proposal is the draft's continuation of what the target wrote, so as far as it is accepted it equals
    the draft's best token after the target's own text: the agreements alone decide every round.
    """
    position, count = 0, 0
    while position < len(agrees):
        accepted = 0
        while accepted < lookahead and position + accepted < len(agrees) and agrees[position + accepted]:
            accepted += 1
        position += accepted + 1
        count += 1
    return count


@torch.no_grad()
def acceptance(
    target: Llama, draft: Llama, prompts: Sequence[str], words: PreTrainedTokenizerFast
) -> Acceptance:
    """Greedy acceptance over all prompts, and the completed texts."""
    agreed, total, verified, texts = 0, 0, 0, []
    early: list[bool] = []
    for prompt in prompts:
        ids = torch.tensor([words(prompt).input_ids])
        start = ids.shape[1]
        row, _ = continue_all(target, ids, start + CONTINUATION, torch.zeros(1))
        ends = (row[0, start:] == words.eos_token_id).nonzero()
        stop = start + int(ends[0]) + 1 if len(ends) else row.shape[1]
        row = row[:, :stop]
        agrees = (draft(row)[0, start - 1 : -1].argmax(-1) == row[0, start:]).tolist()
        agreed, total = agreed + sum(agrees), total + len(agrees)
        early += agrees[:EARLY]
        verified += rounds(agrees, LOOKAHEAD)
        texts.append(words.decode(row[0], skip_special_tokens=True))
    return Acceptance(agreed / total, sum(early) / len(early), total / verified, texts)


@torch.no_grad()
def difference_from_transformers(model: Llama, folder: Path, prompts: Sequence[str]) -> float:
    """Largest difference of any logit between our module and transformers, in fp32."""
    theirs = AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32).eval()
    words = AutoTokenizer.from_pretrained(str(folder))
    worst = 0.0
    for prompt in prompts:
        ids: Tensor = words(prompt, return_tensors="pt").input_ids
        worst = max(worst, (model(ids) - theirs(ids).logits).abs().max().item())
    return worst
