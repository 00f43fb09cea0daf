"""One random model twice: as ours in a session, and as transformers runs it."""

from __future__ import annotations

import json
import shutil
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from saguaro.builder.checkpoint import open_checkpoint
from saguaro.builder.fused_weights import fused_weights
from saguaro.builder.progress import silent
from saguaro.models.config import ModelConfig
from saguaro.runtime.sessions.session import Step
from saguaro.runtime.sessions.torch_session import TorchSession, eager_forward
from saguaro.runtime.speculation import Speculation

ROWS = 96
TOLERANCE = 1e-4


def model_config(path: Path) -> ModelConfig:
    return open_checkpoint(str(path)).config


def session(path: Path, config: ModelConfig | None = None) -> TorchSession:
    """The checkpoint in fp32 with two slots. Its cache starts as garbage that no mask may let through."""
    checkpoint = open_checkpoint(str(path))
    config = config or checkpoint.config
    weights = fused_weights(config, checkpoint.tensors, torch.float32, silent, "test")
    made = TorchSession(
        eager_forward(config, weights, ROWS),
        config,
        dtype=torch.float32,
        max_batch_size=2,
        rows=ROWS,
        device=torch.device("cpu"),
    )
    made.cache.fill_(1e4)
    return made


@lru_cache(maxsize=4)
def transformers_model(path: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32)


def expected(path: Path, tokens: list[int]) -> torch.Tensor:
    """transformers' logits `[T, V]` of the whole sequence."""
    with torch.inference_mode():
        logits: torch.Tensor = transformers_model(path)(torch.tensor([tokens])).logits[0]
    return logits


def chain(tokens: list[list[int]], prefix: list[int], first_slot: int = 0) -> Step:
    """The next tokens, as many of each, of several sequences with `prefix` rows each."""
    width = len(tokens[0])
    positions = torch.tensor(prefix).unsqueeze(1) + torch.arange(width)
    causal = torch.ones(width, width, dtype=torch.bool).tril().expand(len(tokens), -1, -1)
    return Step(torch.tensor(tokens), positions, prefix, causal, prefix, first_slot)


def tree(root: int, speculation: Speculation, prefix: int) -> Step:
    """The root and the nodes of a token tree, as a verification has them."""
    positions = torch.tensor([speculation.depths()]) + prefix
    visible = torch.tensor([speculation.ancestors()])
    return Step(torch.tensor([[root, *speculation.tokens]]), positions, [prefix], visible, [prefix])


def close(ours: torch.Tensor, theirs: torch.Tensor) -> bool:
    return ours.shape == theirs.shape and float((ours - theirs).abs().max()) < TOLERANCE


def with_old_spelling(source: Path, path: Path) -> Path:
    """The checkpoint with its RoPE as transformers 4 wrote it: `rope_theta` beside `rope_scaling`."""
    shutil.copytree(source, path)
    config: dict[str, Any] = json.loads((path / "config.json").read_text())
    rope: dict[str, Any] = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = None if rope["rope_type"] == "default" else rope
    (path / "config.json").write_text(json.dumps(config))
    return path
