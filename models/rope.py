"""Rotary frequencies: how fast each pair of a head's dimensions turns with the position."""

from __future__ import annotations

import math

import torch

from saguaro.models.config import ModelConfig, RopeScaling


def inverse_frequencies(config: ModelConfig) -> torch.Tensor:
    """Radians per position for each rotated pair: float32 of shape [head_dim / 2].

    Computed in float32 with the operations and the order that transformers uses, so that the bits agree:
    at position 100,000 one last bit here is already a visible angle.
    """
    exponents = torch.arange(0, config.head_dim, 2, dtype=torch.float32) / config.head_dim
    frequencies = 1.0 / (config.rope_theta**exponents)
    scaling = config.rope_scaling
    if scaling is None:
        return frequencies
    if scaling.kind == "linear":
        return frequencies / scaling.factor
    if scaling.kind == "llama3":
        return _llama3(frequencies, scaling)
    raise ValueError(f"RoPE scaling {scaling.kind!r} is unknown; expected 'linear' or 'llama3'")


def _llama3(frequencies: torch.Tensor, scaling: RopeScaling) -> torch.Tensor:
    """Slow frequencies are divided by the factor, fast ones kept, those between blended smoothly."""
    low, high = scaling.low_freq_factor, scaling.high_freq_factor
    wavelength = 2 * math.pi / frequencies
    slow = wavelength > scaling.original_max_position / low
    fast = wavelength < scaling.original_max_position / high
    scaled = torch.where(slow, frequencies / scaling.factor, frequencies)
    share = (scaling.original_max_position / wavelength - low) / (high - low)
    blended = (1 - share) * scaled / scaling.factor + share * scaled
    return torch.where(~fast & ~slow, blended, scaled)
