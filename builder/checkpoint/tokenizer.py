"""The tokenizer of a checkpoint or engine directory, loaded without running anything that came with it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from saguaro.builder.checkpoint.files import is_regular, member, read_json, shown
from saguaro.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# What together defines tokens, special tokens, chat template and end tokens.
_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "generation_config.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
)
_MAX_SETTINGS = 16 * 2**20
# Classes of transformers itself that can be built from vocab.json and merges.txt, or from tokenizer.model.
_LIBRARY_CLASSES = ("LlamaTokenizer", "Qwen2Tokenizer", "GPT2Tokenizer")
_SAVE = "save it with transformers' `save_pretrained` so that there is a tokenizer.json"


def tokenizer_files(path: Path) -> list[Path]:
    """The files in `path` that an engine directory needs copies of to tokenise as this checkpoint does.

    Raises CheckpointError when one is a symbolic link out of the checkpoint.
    """
    return [member(path, name, path) for name in _FILES if is_regular(path / name)]


def load_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """The tokenizer in `path`: always a class of transformers, over tokenizer.json where there is one.

    `auto_map`, which names Python files in the checkpoint, is never followed. Raises CheckpointError when
    there is no tokenizer, it needs such code, or it cannot be loaded.
    """
    names = {file.name for file in tokenizer_files(path)}
    settings = _settings(path, names)
    cls = _tokenizer_class(path, names, settings)
    try:
        tokenizer: PreTrainedTokenizerFast = cls.from_pretrained(
            str(path), local_files_only=True, trust_remote_code=False
        )
    except (KeyboardInterrupt, SystemExit):
        raise
    # Malformed files surface as almost any exception of transformers, or as a panic of the Rust library
    # under it, which is no Exception.
    except BaseException as error:
        raise CheckpointError(
            f"{path}: the tokenizer cannot be loaded ({shown(str(error))}); "
            f"download its files again, or {_SAVE}"
        ) from error
    if not len(tokenizer):
        raise CheckpointError(f"{path}: the tokenizer has no tokens; download its files again")
    return tokenizer


def _settings(path: Path, names: set[str]) -> dict[str, Any]:
    if "tokenizer_config.json" not in names:
        return {}
    file = path / "tokenizer_config.json"
    settings = read_json(file, _MAX_SETTINGS)
    # An old way to name another tokenizer.json, which transformers opens wherever it points.
    if settings.get("fast_tokenizer_files", ["tokenizer.json"]) != ["tokenizer.json"]:
        raise CheckpointError(
            f"{file}: `fast_tokenizer_files` is {shown(settings['fast_tokenizer_files'])}, expected none; "
            "delete the field, so that tokenizer.json is used"
        )
    return settings


def _tokenizer_class(path: Path, names: set[str], settings: dict[str, Any]) -> Any:
    """The class to load with, chosen by us from what files there are: never imported by a name in a file."""
    import transformers  # here, because importing it takes seconds

    if "tokenizer.json" in names:
        return transformers.PreTrainedTokenizerFast
    if not names & {"vocab.json", "tokenizer.model"}:
        raise CheckpointError(
            f"{path}: no tokenizer, expected tokenizer.json; download the checkpoint again, or {_SAVE}"
        )
    named = settings.get("tokenizer_class")
    base = named.removesuffix("Fast") if isinstance(named, str) else named
    if "auto_map" in settings or base not in _LIBRARY_CLASSES:
        raise CheckpointError(
            f"{path / 'tokenizer_config.json'}: `tokenizer_class` is {shown(named)}, expected one of "
            f"{', '.join(_LIBRARY_CLASSES)} where there is no tokenizer.json, as code from a checkpoint is "
            f"never run; {_SAVE}"
        )
    return getattr(transformers, f"{base}Fast")
