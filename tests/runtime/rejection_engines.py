"""Small pairs that verify by rejection."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

import saguaro
from saguaro import LLM
from saguaro.builder.checkpoint import open_checkpoint
from saguaro.builder.fused_weights import fused_weights
from saguaro.builder.progress import silent
from saguaro.engine.rows import draft_rows, target_rows
from saguaro.runtime.pair import LoadedModel, Pair
from saguaro.runtime.sessions.torch_session import TorchSession, eager_forward

CPU = torch.device("cpu")
POLICY = {"lookahead": 5, "budget": 12, "fan_out": "adaptive", "fallback": "auto", "verification": "rejection"}


def rejection_engine(target: Path, draft: Path, home: Path, **speculation: Any) -> LLM:
    """Built through a deployment file, since some of the settings have no other way in."""
    deployment = {
        "target": {"checkpoint": str(target)},
        "draft": {"checkpoint": str(draft)},
        "build": {"enforce_eager": True, "max_batch_size": 3, "max_seq_len": 256},
        "speculation": {"verification": "rejection", **speculation},
    }
    home.mkdir()
    (home / "deployment.yaml").write_text(json.dumps(deployment))
    return LLM(saguaro.build(home / "deployment.yaml", output=home / "engine"))


def rejection_pair(target: Path, draft: Path, slots: int, max_seq_len: int, **speculation: Any) -> Pair:
    """Without a tokenizer, so that a model may have a few tokens only."""
    policy = {**POLICY, **speculation}
    lookahead, budget = policy["lookahead"], policy["budget"]

    def load(role: str) -> LoadedModel:
        opened = open_checkpoint(str(target if role == "target" else draft))
        rows = target_rows(max_seq_len, lookahead)
        if role == "draft":
            rows = draft_rows(max_seq_len, lookahead, budget)
        weights = fused_weights(opened.config, opened.tensors, torch.float32, silent, role)
        run = eager_forward(opened.config, weights, rows)
        return LoadedModel(
            role, CPU, 1,
            lambda: TorchSession(
                run, opened.config, dtype=torch.float32, max_batch_size=slots, rows=rows, device=CPU
            ),
        )  # fmt: skip

    return Pair(load("target"), lambda: load("draft"), policy, chunk=16)
