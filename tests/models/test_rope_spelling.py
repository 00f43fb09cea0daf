"""`rope_parameters`, and `rope_theta` with `rope_scaling`: two spellings in config.json of the same model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from saguaro.models.config import ModelConfig
from tests.models.reference import chain, close, expected, model_config, session, with_old_spelling

TOKENS = torch.randint(1, 320, (64,), generator=torch.Generator().manual_seed(8)).tolist()


@pytest.mark.parametrize("kind", ["llama", "llama linear", "llama 3", "mistral", "qwen2", "qwen3"])
def test_old_spelling(checkpoint: Callable[[str], Path], tmp_path: Path, kind: str) -> None:
    new = checkpoint(kind)
    old = with_old_spelling(new, tmp_path / "old")
    assert "rope_theta" in json.loads((old / "config.json").read_text())
    assert model_config(old) == model_config(new)
    logits = session(old).forward(chain([TOKENS], [0]))[0]
    assert close(logits, expected(old, TOKENS))
    assert close(logits, expected(new, TOKENS))


@pytest.mark.parametrize("kind", ["llama linear", "llama 3"])
def test_scaling_matters_here(checkpoint: Callable[[str], Path], kind: str) -> None:
    """Without its scaling the model gives other logits, so the tests above would see it forgotten."""
    path = checkpoint(kind)
    unscaled = ModelConfig.from_dict({**model_config(path).to_dict(), "rope_scaling": None})
    assert not close(session(path, unscaled).forward(chain([TOKENS], [0]))[0], expected(path, TOKENS))
