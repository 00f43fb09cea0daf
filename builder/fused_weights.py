"""An engine's weights from a checkpoint's tensors: projections fused, all in the engine's type."""

from __future__ import annotations

import torch

from saguaro.builder.checkpoint import TensorStore
from saguaro.builder.progress import Progress
from saguaro.models.config import ModelConfig
from saguaro.models.weights import engine_weights


def fused_weights(
    config: ModelConfig, tensors: TensorStore, dtype: torch.dtype, progress: Progress, stage: str
) -> dict[str, torch.Tensor]:
    """What `engine_weights(config)` names. Tied weights share one tensor."""
    weights = engine_weights(config)
    made: dict[tuple[str, ...], torch.Tensor] = {}
    for done, weight in enumerate(weights.values()):
        progress(f"{stage}: weights", done, len(weights))
        if weight.parts not in made:
            parts = [tensors.get(part) for part in weight.parts]
            fused = torch.cat(parts) if len(parts) > 1 else parts[0]
            made[weight.parts] = fused.to(dtype).contiguous()
    progress(f"{stage}: weights", len(weights), len(weights))
    return {name: made[weight.parts] for name, weight in weights.items()}
