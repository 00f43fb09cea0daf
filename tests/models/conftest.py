from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.support.checkpoints import make_checkpoint

LINEAR = {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0}
LLAMA3 = {
    "rope_type": "llama3", "factor": 8.0, "rope_theta": 500000.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 32,
}  # fmt: skip
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {}),
    "llama tied": ("LlamaForCausalLM", {"tie_word_embeddings": True}),
    "llama attention bias": ("LlamaForCausalLM", {"attention_bias": True}),
    "llama mlp bias": ("LlamaForCausalLM", {"mlp_bias": True}),
    "llama linear": ("LlamaForCausalLM", {"rope_parameters": LINEAR}),
    "llama 3": ("LlamaForCausalLM", {"rope_parameters": LLAMA3}),
    "llama wide heads": ("LlamaForCausalLM", {"head_dim": 24}),
    "llama one kv head": ("LlamaForCausalLM", {"num_key_value_heads": 1}),
    "llama mha": ("LlamaForCausalLM", {"num_key_value_heads": 4}),
    "mistral": ("MistralForCausalLM", {}),
    "mistral wide heads": ("MistralForCausalLM", {"head_dim": 32}),
    "qwen2": ("Qwen2ForCausalLM", {}),
    "qwen2 tied mha": ("Qwen2ForCausalLM", {"tie_word_embeddings": True, "num_key_value_heads": 4}),
    "qwen3": ("Qwen3ForCausalLM", {}),
    "qwen3 biased": ("Qwen3ForCausalLM", {"attention_bias": True}),
    "qwen3 wide heads": ("Qwen3ForCausalLM", {"head_dim": 32, "tie_word_embeddings": True}),
}


@pytest.fixture(autouse=True)
def on_one_thread() -> Iterator[None]:
    """Small tensors on busy cores: a second thread costs more than it brings."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.inference_mode():
        yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The random checkpoint of one of `KINDS`, made once."""
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            architecture, changes = KINDS[kind]
            # Logits of several units, without the sharp softmax that would amplify rounding.
            changes = {"initializer_range": 0.1, **changes}
            made[kind] = make_checkpoint(tmp_path_factory.mktemp("model"), architecture, **changes)
        return made[kind]

    return get
