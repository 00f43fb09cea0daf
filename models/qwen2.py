"""Qwen 2 and 2.5 (Yang et al. 2024): Llama's graph with a bias on q, k and v (`config.attention_bias`)."""

from __future__ import annotations

from saguaro.models.llama import forward

__all__ = ["forward"]
