"""Mistral (Jiang et al. 2023): Llama's graph. Its sliding window bounds the engine's length; see the builder."""

from __future__ import annotations

from saguaro.models.llama import forward

__all__ = ["forward"]
