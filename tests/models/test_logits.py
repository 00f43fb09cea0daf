"""Our logits are transformers' within 1e-4 in fp32, whole, in chunks, one by one and batched."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.models.conftest import KINDS
from tests.models.reference import chain, close, expected, model_config, session

Checkpoint = Callable[[str], Path]
TOKENS = torch.randint(1, 320, (48,), generator=torch.Generator().manual_seed(5)).tolist()
ONE_OF_EACH = ["llama 3", "mistral", "qwen2", "qwen3"]


def test_the_kinds_are_what_they_say(checkpoint: Checkpoint) -> None:
    """The comparison below is worth what the configurations that reach it are worth."""
    scaled = model_config(checkpoint("llama 3")).rope_scaling
    assert scaled is not None
    assert (scaled.kind, scaled.factor) == ("llama3", 8.0)
    linear = model_config(checkpoint("llama linear")).rope_scaling
    assert linear is not None
    assert (linear.kind, linear.factor) == ("linear", 4.0)
    biased = model_config(checkpoint("llama attention bias"))
    assert biased.attention_bias
    assert biased.attention_output_bias
    assert model_config(checkpoint("llama mlp bias")).mlp_bias
    assert model_config(checkpoint("llama tied")).tie_word_embeddings
    assert model_config(checkpoint("qwen2")).attention_bias
    assert not model_config(checkpoint("qwen2")).attention_output_bias
    assert model_config(checkpoint("qwen3")).qk_norm
    wide = model_config(checkpoint("llama wide heads"))
    assert wide.head_dim * wide.num_heads != wide.hidden_size


@pytest.mark.parametrize("kind", KINDS)
def test_whole_prompt(checkpoint: Checkpoint, kind: str) -> None:
    path = checkpoint(kind)
    logits = session(path).forward(chain([TOKENS], [0]))
    assert logits.dtype == torch.float32
    assert close(logits[0], expected(path, TOKENS))


@pytest.mark.parametrize("kind", KINDS)
def test_chunks_then_single_steps(checkpoint: Checkpoint, kind: str) -> None:
    path = checkpoint(kind)
    ours = session(path)
    cuts = [0, 20, 41, *range(42, len(TOKENS) + 1)]
    parts = [ours.forward(chain([TOKENS[a:b]], [a]))[0] for a, b in itertools.pairwise(cuts)]
    assert close(torch.cat(parts), expected(path, TOKENS))


@pytest.mark.parametrize("kind", ONE_OF_EACH)
def test_two_sequences_with_different_prefixes(checkpoint: Checkpoint, kind: str) -> None:
    path = checkpoint(kind)
    ours = session(path)
    first, second = TOKENS[:8], TOKENS[20:36]
    ours.forward(chain([first[:5]], [0], first_slot=0))
    ours.forward(chain([second[:13]], [0], first_slot=1))
    logits = ours.forward(chain([first[5:], second[13:]], [5, 13]))
    assert close(logits[0], expected(path, first)[-3:])
    assert close(logits[1], expected(path, second)[-3:])


@pytest.mark.parametrize("kind", ONE_OF_EACH)
def test_moved_rows_and_slots_are_as_good_as_computed_ones(checkpoint: Checkpoint, kind: str) -> None:
    """Row 8 and on hold what belongs to rows 4 and on, where a wrong continuation was computed."""
    path = checkpoint(kind)
    ours = session(path)
    good, wrong = TOKENS[:8], TOKENS[30:34]
    ours.forward(chain([good[:4] + wrong], [0], first_slot=1))
    step = chain([good[4:]], [4], first_slot=1)
    step.write_index = [8]
    step.visible = torch.cat([torch.zeros(1, 4, 4, dtype=torch.bool), step.visible], dim=-1)
    ours.forward(step)
    ours.move_rows(1, [8, 9, 10, 11], 4)
    ours.move_slot(1, 0)
    logits = ours.forward(chain([[TOKENS[8]]], [8]))
    assert close(logits[0], expected(path, TOKENS[:9])[-1:])


def test_overlapping_rows_move_in_order(checkpoint: Checkpoint) -> None:
    path = checkpoint("llama")
    ours = session(path)
    ours.forward(chain([TOKENS[:12]], [0]))
    before = ours.cache.clone()
    ours.move_rows(0, [5, 6, 8, 9], 4)
    assert torch.equal(ours.cache[:, 0, :, 4:8], before[:, 0, :, [5, 6, 8, 9]])
    assert torch.equal(ours.cache[:, 0, :, 8:], before[:, 0, :, 8:])


def test_a_position_that_is_off_is_noticed(checkpoint: Checkpoint) -> None:
    """The comparison has teeth."""
    path = checkpoint("llama")
    step = chain([TOKENS], [0])
    step.positions[0, 24:] += 1
    assert not close(session(path).forward(step)[0], expected(path, TOKENS))
