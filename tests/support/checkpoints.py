"""Small random checkpoints, made with transformers, so that its own code is what ours is compared with."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

ARCHITECTURES = {
    "LlamaForCausalLM": "llama",
    "MistralForCausalLM": "mistral",
    "Qwen2ForCausalLM": "qwen2",
    "Qwen3ForCausalLM": "qwen3",
}
SHAPE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 512,
    "initializer_range": 0.3,  # wide, so that the logits are far from uniform
    "tie_word_embeddings": False,
}


@lru_cache(maxsize=1)
def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level BPE over this file; 320 tokens."""
    model = Tokenizer(models.BPE())
    model.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    model.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    model.train_from_iterator([Path(__file__).read_text()], trainer)
    fast = PreTrainedTokenizerFast(tokenizer_object=model, eos_token="<|end|>")
    fast.chat_template = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] }}\n{% endfor %}"
    return fast


def make_checkpoint(path: Path, architecture: str = "LlamaForCausalLM", seed: int = 0, **changes: Any) -> Path:
    """A random model of the architecture in `path`, with the shared tokenizer; `changes` to its configuration."""
    shape = {**SHAPE, "vocab_size": len(tokenizer()), "eos_token_id": 0, "bos_token_id": None, **changes}
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(ARCHITECTURES[architecture], **shape))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or "norm" in name:  # transformers starts them at 0 and 1, which hides mistakes
                parameter.add_(torch.randn_like(parameter) * 0.2)
    model.generation_config.eos_token_id = 0
    model.save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path


def noisy_copy(source: Path, path: Path, noise: float, seed: int = 1) -> Path:
    """The same model with noise on its weights: a draft that often agrees with it."""
    model = AutoModelForCausalLM.from_pretrained(source)
    torch.manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * parameter.std() * noise)
    model.save_pretrained(path)
    tokenizer().save_pretrained(path)
    return path
