"""What may be given as a prompt, and its token ids."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from saguaro.errors import RequestError

Messages = list[dict[str, Any]]
Prompt = str | list[int] | Messages


def as_prompts(prompts: Prompt | Sequence[Prompt]) -> list[Prompt]:
    """One prompt or several, as a list. A list of ints, or of messages, is one prompt."""
    if isinstance(prompts, str):
        return [prompts]
    if isinstance(prompts, (dict, bytes)) or not isinstance(prompts, Iterable):
        kind = type(prompts).__name__
        raise RequestError(f"prompts is a {kind}; expected a text, token ids, messages, or a list of these")
    items: list[Any] = list(prompts)
    return [items] if items and all(isinstance(item, (int, dict)) for item in items) else items


def encode(tokenizer: Any, prompt: Prompt, vocab_size: int) -> tuple[str | None, list[int]]:
    """The prompt's text, where it has one, and its token ids; texts get the tokenizer's own special tokens.

    Raises RequestError for an empty prompt, ids outside the vocabulary, messages without a chat template.
    """
    text: str | None = None
    items: list[Any] = prompt if isinstance(prompt, list) else []
    if isinstance(prompt, str):
        text, tokens = prompt, _tokens(tokenizer, prompt)
    elif items and all(isinstance(item, dict) for item in items):
        text = _chat(tokenizer, items)
        tokens = _tokens(tokenizer, text, add_special_tokens=False)
    elif isinstance(prompt, list) and all(isinstance(item, int) and not isinstance(item, bool) for item in items):
        tokens = list(items)
    else:
        kind = type(prompt).__name__
        raise RequestError(f"a prompt is a {kind}; expected a text, a list of token ids, or a list of messages")
    if not tokens:
        raise RequestError("the prompt is empty; give at least one token")
    wrong = next((token for token in tokens if not 0 <= token < vocab_size), None)
    if wrong is not None:
        raise RequestError(f"the prompt has the token id {wrong}; expected ids from 0 to {vocab_size - 1}")
    return text, tokens


def _tokens(tokenizer: Any, text: str, **options: bool) -> list[int]:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RequestError(f"the prompt is no Unicode text ({error.reason}); expected no surrogates") from error
    return list(tokenizer.encode(text, **options)) if text else []


def _chat(tokenizer: Any, messages: Messages) -> str:
    if not tokenizer.chat_template:
        raise RequestError("the prompt is a list of messages, but this model has no chat template; give text")
    try:
        return str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    except Exception as error:
        raise RequestError(f"the chat template does not take these messages ({error}); check their roles") from error
