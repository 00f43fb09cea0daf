"""Text as it comes: whole characters, nothing that a stop string may claim back, and in the end all of it."""

from __future__ import annotations

import random

import pytest

from saguaro.runtime.detokenizer import Detokenizer
from tests.support.checkpoints import tokenizer

TEXT = "naïve café — 木の下で 🌵🌵 def f(x):\n    return x\n"


def bytes_as_tokens(text: str) -> list[int]:
    """One token a byte: every character beyond ASCII straddles several tokens."""
    tokens = [token for byte in text.encode() for token in single(byte)]
    assert len(tokens) == len(text.encode())
    return tokens


def single(byte: int) -> list[int]:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    return [tokenizer().convert_tokens_to_ids(bytes_to_unicode()[byte])]


def streamed(
    tokens: list[int], stop: list[str] | None = None, prompt: str = "a prompt"
) -> tuple[list[str], bool]:
    """The pieces given token by token, the last call included, and whether a stop string was found."""
    text = Detokenizer(tokenizer(), tokenizer().encode(prompt), stop or [])
    pieces = []
    for token in tokens:
        stopped = text.add(token)
        pieces.append(text.take())
        if stopped:
            break
    pieces.append(text.take(last=True))
    assert "".join(pieces) == text.text
    return pieces, text.stopped


@pytest.mark.parametrize(
    "tokens", [bytes_as_tokens(TEXT), tokenizer().encode(TEXT)], ids=["bytes", "encoded"]
)
def test_characters_come_whole(tokens: list[int]) -> None:
    pieces, stopped = streamed(tokens)
    assert "".join(pieces) == TEXT
    assert "\ufffd" not in "".join(pieces)
    assert pieces[-1] == ""  # nothing had to wait for the end
    assert not stopped


def test_a_character_that_never_ends() -> None:
    pieces, _ = streamed(bytes_as_tokens("ab🌵")[:-1])
    assert pieces[:3] == ["a", "b", ""]
    assert pieces[-1].startswith("\ufffd")


def test_bytes_that_are_no_text() -> None:
    tokens = [*single(0xFF), *single(0xC3), *bytes_as_tokens("ok"), *single(0x80)]
    pieces, _ = streamed(tokens)
    assert "".join(pieces) == tokenizer().decode(tokens)


def test_the_prompt_is_no_part_of_it() -> None:
    for prompt in ("", "x", "a long prompt with words", "木"):
        pieces, _ = streamed(tokenizer().encode("木 def"), prompt=prompt)
        assert "".join(pieces) == "木 def"


@pytest.mark.parametrize("stop", ["café", "é", "木の", "🌵 def", ":\n", "f(x)"])
def test_a_stop_string(stop: str) -> None:
    for tokens in (bytes_as_tokens(TEXT), tokenizer().encode(TEXT)):
        pieces, stopped = streamed(tokens, [stop, "not there"])
        assert stopped
        assert "".join(pieces) == TEXT[: TEXT.index(stop)]


def test_the_earliest_of_several_stop_strings() -> None:
    """Completed by the same token, the one that starts first counts, wherever it stands in the list."""
    tokens = tokenizer().encode("xx return yy")
    for stops in (["return", "turn"], ["turn", "return"], ["n", "return"]):
        pieces, stopped = streamed(tokens, stops)
        text = "".join(pieces)
        assert stopped
        assert "xx return yy".startswith(text)
        assert not any(stop in text for stop in stops)


def test_what_may_become_a_stop_string_is_held_back() -> None:
    text = Detokenizer(tokenizer(), [], ["aab"])
    given = []
    for letter in "xaaac":
        (token,) = bytes_as_tokens(letter)
        text.add(token)
        given.append(text.take())
    assert given == ["x", "", "", "a", "aac"]


def test_no_piece_is_ever_taken_back() -> None:
    """Random texts over few letters: the pieces are the text up to the first stop string."""
    dice = random.Random(2)
    found = 0
    for _ in range(120):
        whole = "".join(dice.choice("abé🌵") for _ in range(14))
        stops = ["".join(dice.choice("abé🌵") for _ in range(dice.randint(1, 4))) for _ in range(2)]
        pieces, stopped = streamed(bytes_as_tokens(whole), stops)
        ends = {stop: whole.index(stop) + len(stop) for stop in stops if stop in whole}
        assert stopped == bool(ends)
        if ends:  # the first to be complete; of those complete at once, the first to start
            first = min(ends.values())
            assert "".join(pieces) == whole[: min(whole.index(s) for s, end in ends.items() if end == first)]
            found += 1
        else:
            assert "".join(pieces) == whole
    assert 20 < found < 120


def test_special_tokens_have_no_text() -> None:
    pieces, _ = streamed([*tokenizer().encode("a"), 0, *tokenizer().encode("b")])
    assert "".join(pieces) == "ab"
