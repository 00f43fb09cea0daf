"""Between our checkpoints and Hugging Face directories."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import PreTrainedTokenizerFast

from .model import ARITHMETIC, HEAD_SIZE, LONGEST, NORM_EPS, ROPE_THETA, Llama, Shape


def write_json(path: Path, content: dict) -> None:
    """Indented, with a last line break."""
    path.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def export(
    weights: dict[str, torch.Tensor], shape: Shape, words: PreTrainedTokenizerFast, folder: Path
) -> None:
    """Write the directory: weights rounded to bf16."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {name: value.to(torch.bfloat16).contiguous() for name, value in weights.items()}
    save_file(tensors, str(folder / "model.safetensors"), metadata={"format": "pt"})
    (folder / "model.safetensors").chmod(0o644)  # safetensors makes it private
    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": HEAD_SIZE,
        "hidden_act": "silu",
        "max_position_embeddings": LONGEST,
        "rms_norm_eps": NORM_EPS,
        "rope_theta": ROPE_THETA,
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": True,
        "bos_token_id": words.bos_token_id,
        "eos_token_id": words.eos_token_id,
        "dtype": "bfloat16",
    }
    write_json(folder / "config.json", config)
    ends = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id}
    write_json(folder / "generation_config.json", ends)
    words.backend_tokenizer.save(str(folder / "tokenizer.json"))
    tokenizer_config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": words.bos_token,
        "eos_token": words.eos_token,
        "pad_token": words.pad_token,
        "clean_up_tokenization_spaces": False,
        "model_max_length": LONGEST,
    }
    write_json(folder / "tokenizer_config.json", tokenizer_config)


def load_exported(folder: Path, shape: Shape, dtype: torch.dtype = ARITHMETIC) -> nn.Module:
    """A `Llama` with an exported directory's weights, weights and arithmetic in `dtype`, for inference."""
    model = Llama(shape, dtype)
    model.load_state_dict(load_file(str(folder / "model.safetensors")))
    return model.to(dtype).eval().requires_grad_(False)
