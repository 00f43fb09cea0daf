"""Reading Hugging Face checkpoints, local or from the hub, without trusting what is in them."""

from saguaro.builder.checkpoint.config import parse_config
from saguaro.builder.checkpoint.generation import Generation
from saguaro.builder.checkpoint.hub import resolve
from saguaro.builder.checkpoint.names import expected_tensors
from saguaro.builder.checkpoint.opened import Checkpoint, open_checkpoint
from saguaro.builder.checkpoint.pair import check_pair
from saguaro.builder.checkpoint.tensors import TensorStore
from saguaro.builder.checkpoint.tokenizer import load_tokenizer, tokenizer_files

__all__ = [
    "Checkpoint",
    "Generation",
    "TensorStore",
    "check_pair",
    "expected_tensors",
    "load_tokenizer",
    "open_checkpoint",
    "parse_config",
    "resolve",
    "tokenizer_files",
]
