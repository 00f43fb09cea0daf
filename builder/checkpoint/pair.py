"""Whether a draft can speak for a target: the same token ids must mean the same tokens."""

from __future__ import annotations

import json
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

from saguaro.builder.checkpoint.files import shown
from saguaro.builder.checkpoint.opened import Checkpoint
from saguaro.builder.checkpoint.tokenizer import load_tokenizer
from saguaro.errors import CheckpointError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


def check_pair(target: Checkpoint, draft: Checkpoint) -> None:
    """Raise CheckpointError, naming the first difference, unless both have the same tokenizer.

    Token ids, merges and the set of special tokens count. Chat templates, which special token ends or pads a
    text, and how many padding rows a model's vocabulary has beyond its tokenizer's do not: base and
    instruction-tuned models of one family differ in these and still share every token.
    """
    ours, theirs = load_tokenizer(target.path), load_tokenizer(draft.path)
    difference = (
        _vocabulary_difference(ours.get_vocab(), theirs.get_vocab())
        or _merge_difference(_model(ours), _model(theirs))
        or _special_difference(_specials(ours), _specials(theirs))
    )
    if difference:
        raise CheckpointError(
            f"draft {draft.path}: its tokenizer differs from that of the target {target.path}: {difference}; "
            "choose two models of one family"
        )
    size = max(ours.get_vocab().values()) + 1
    for role, checkpoint in (("target", target), ("draft", draft)):
        if checkpoint.config.vocab_size < size:
            raise CheckpointError(
                f"{role} {checkpoint.path / 'config.json'}: `vocab_size` is {checkpoint.config.vocab_size}, "
                f"expected at least the tokenizer's {size}; the tokenizer belongs to another model"
            )


def _vocabulary_difference(ours: dict[str, int], theirs: dict[str, int]) -> str | None:
    if ours == theirs:
        return None
    # By id, so that "first" means the same to everyone who looks the token up.
    for token, number in sorted(ours.items(), key=lambda item: item[1]):
        other = theirs.get(token)
        if other != number:
            there = "does not exist" if other is None else f"is {other}"
            return f"token {shown(token)} is {number} in the target and {there} in the draft"
    token, number = min(((t, n) for t, n in theirs.items() if t not in ours), key=lambda item: item[1])
    return f"token {shown(token)} is {number} in the draft and does not exist in the target"


def _merge_difference(ours: dict[str, Any], theirs: dict[str, Any]) -> str | None:
    if ours.get("type") != theirs.get("type"):
        return f"the target's is of type {shown(ours.get('type'))}, the draft's {shown(theirs.get('type'))}"
    pairs = zip_longest(ours.get("merges") or [], theirs.get("merges") or [])
    for rank, (mine, other) in enumerate(pairs):
        if mine != other:
            return f"merge {rank} is {shown(mine)} in the target and {shown(other)} in the draft"
    return None


def _special_difference(ours: set[str], theirs: set[str]) -> str | None:
    for token in sorted(ours ^ theirs):
        side, other = ("target", "draft") if token in ours else ("draft", "target")
        return f"token {shown(token)} is special in the {side} and ordinary in the {other}"
    return None


def _model(tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """The serialised model: the one form in which every version of tokenizer.json spells merges alike."""
    model: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    return model


def _specials(tokenizer: PreTrainedTokenizerFast) -> set[str]:
    return {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
