"""From what a user typed to a directory on this machine: a local path, or a download from the hub."""

from __future__ import annotations

import re
from pathlib import Path

from saguaro.errors import CheckpointError

# Everything the builder reads and nothing else: no pickles, no code, no second copy in another format.
_WANTED = [
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
]
_UNWANTED = ["*/*", "consolidated*"]
_HUB_ID = re.compile(r"(?P<repo>[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(@(?P<revision>[\w./-]+))?", re.ASCII)


def resolve(checkpoint: str, base: Path | None = None) -> Path:
    """The directory that `checkpoint` means: a path (relative to `base`) or a hub id `org/name[@revision]`.

    Downloads what is not cached; HF_HOME, HF_HUB_OFFLINE and HF_TOKEN mean what they mean to huggingface_hub.
    Raises CheckpointError when there is neither such a directory nor such a repository, or it cannot be had.
    """
    path = Path(checkpoint).expanduser() if checkpoint.startswith("~") else Path(checkpoint)
    path = path if base is None else base / path
    try:
        if path.is_dir():
            return path
        exists = path.exists()
    except (OSError, ValueError) as error:
        raise CheckpointError(f"checkpoint {checkpoint!r}: not a usable path; correct it") from error
    if exists:
        raise CheckpointError(
            f"{path}: a file, expected a checkpoint directory; name the directory that holds config.json"
        )
    match = _HUB_ID.fullmatch(checkpoint)
    if match is None:
        raise CheckpointError(
            f"{path}: no such directory; name a checkpoint's directory, or a hub id such as 'Qwen/Qwen3-0.6B'"
        )
    return _download(match["repo"], match["revision"], path)


def _download(repo: str, revision: str | None, tried: Path) -> Path:
    import huggingface_hub  # here, because importing it takes long and local checkpoints do not need it
    from huggingface_hub import errors

    named = repo if revision is None else f"{repo}@{revision}"

    def sentence(problem: str, advice: str) -> CheckpointError:
        return CheckpointError(f"checkpoint {named!r}: {tried} is no directory, and {problem}; {advice}")

    try:
        return Path(
            huggingface_hub.snapshot_download(
                repo, revision=revision, allow_patterns=_WANTED, ignore_patterns=_UNWANTED
            )
        )
    # Subclasses first: a gated repository counts as not found, an uncached one as a missing file.
    except errors.GatedRepoError as error:
        raise sentence(
            "the hub repository is gated",
            f"accept its terms on https://huggingface.co/{repo} and set HF_TOKEN to a token of that account",
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise sentence(
            "the hub has no such repository (or it is private)",
            "correct the name, or set HF_TOKEN if it is private",
        ) from error
    except errors.RevisionNotFoundError as error:
        raise sentence(f"the hub has no revision {revision!r} of it", "name a branch or commit") from error
    except errors.HFValidationError as error:
        raise sentence("that is no valid hub id", "expected 'org/name' or 'org/name@revision'") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        if huggingface_hub.constants.HF_HUB_OFFLINE:
            raise sentence(
                "it is not (completely) in the local hub cache while HF_HUB_OFFLINE is set",
                "unset HF_HUB_OFFLINE, or download the checkpoint beforehand",
            ) from error
        raise sentence(*_unreachable(error)) from error
    except Exception as error:  # the HTTP library's own errors differ from release to release of the hub
        raise sentence(*_unreachable(error)) from error


def _unreachable(error: Exception) -> tuple[str, str]:
    cause = type(error.__cause__ or error).__name__
    problem = f"the hub could not be reached or did not answer properly ({cause})"
    return problem, "check the network, or give a local directory"
