"""What may be given as a prompt, and what is said about what may not."""

from __future__ import annotations

import pytest

from saguaro.errors import RequestError
from saguaro.prompts import as_prompts, encode
from tests.support.checkpoints import tokenizer

MESSAGES = [{"role": "user", "content": "hello"}]


def test_one_prompt_or_several() -> None:
    assert as_prompts("a") == ["a"]
    assert as_prompts(["a", "b"]) == ["a", "b"]
    assert as_prompts([1, 2]) == [[1, 2]]
    assert as_prompts([[1, 2], [3]]) == [[1, 2], [3]]
    assert as_prompts(MESSAGES) == [MESSAGES]
    assert as_prompts([MESSAGES, "a", [1]]) == [MESSAGES, "a", [1]]
    assert as_prompts([]) == []
    assert as_prompts(text for text in ("a", "b")) == ["a", "b"]  # type: ignore[arg-type]


def test_a_text() -> None:
    text = "def f(x): é🌵"
    assert encode(tokenizer(), text, 320) == (text, tokenizer().encode(text))


def test_token_ids_are_taken_as_they_are() -> None:
    ids = [0, 319, 5, 5]
    text, tokens = encode(tokenizer(), ids, 320)
    assert (text, tokens) == (None, ids)
    tokens.append(1)
    assert len(ids) == 4


def test_messages_go_through_the_chat_template() -> None:
    text, tokens = encode(tokenizer(), MESSAGES, 320)
    assert text == "user: hello\n"
    assert tokenizer().decode(tokens) == text


def refused(prompt: object, *words: str) -> None:
    with pytest.raises(RequestError) as caught:
        encode(tokenizer(), prompt, 320)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)


def test_empty() -> None:
    refused("", "empty")
    refused([], "empty")


def test_of_no_known_kind() -> None:
    for prompt, kind in (
        (5, "int"),
        (None, "NoneType"),
        ((1, 2), "tuple"),
        (["a"], "list"),
        ([1, "a"], "list"),
    ):
        refused(prompt, f"a prompt is a {kind}", "expected a text")
    refused([True, False], "expected")


def test_ids_outside_the_vocabulary() -> None:
    refused([5, 320], "320", "0 to 319")
    refused([-1], "-1")


def test_messages_that_the_template_does_not_take(monkeypatch: pytest.MonkeyPatch) -> None:
    refused([{"role": "user"}, 5], "expected")
    monkeypatch.setattr(tokenizer(), "chat_template", "{{ raise_exception('roles must alternate') }}")
    refused(MESSAGES, "chat template", "roles must alternate")
    monkeypatch.setattr(tokenizer(), "chat_template", None)
    refused(MESSAGES, "no chat template", "give text")


def test_text_that_is_no_unicode() -> None:
    refused("a\ud800b", "expected")
