"""The supported architectures, each written once in a file of its own for every backend.

To add one: copy the page of the nearest relative, change what differs, and name it in `ARCHITECTURES`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from saguaro.models import llama, mistral, qwen2, qwen3
from saguaro.models.config import ModelConfig, RopeScaling
from saguaro.models.operations import Operations

ARCHITECTURES: dict[str, Callable[[Operations[Any], ModelConfig], Any]] = {
    "LlamaForCausalLM": llama.forward,
    "MistralForCausalLM": mistral.forward,
    "Qwen2ForCausalLM": qwen2.forward,
    "Qwen3ForCausalLM": qwen3.forward,
}

__all__ = ["ARCHITECTURES", "ModelConfig", "Operations", "RopeScaling"]
