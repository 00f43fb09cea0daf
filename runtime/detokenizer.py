"""Token ids to text as they come, holding back what may still change or may become a stop string."""

from __future__ import annotations

from typing import Any

REPLACEMENT = "\ufffd"  # a character whose last bytes are in tokens to come


class Detokenizer:
    """The text of one completion, from its tokens as they come.

    Decoding waits until somebody looks: with stop strings at every token, else when text is taken.
    """

    def __init__(self, tokenizer: Any, prompt: list[int], stop: list[str]):
        self._tokenizer, self._stop = tokenizer, stop
        # A few tokens before the first new one: how a token reads may depend on those before it.
        self._tokens = list(prompt[-5:])
        self._window = 0  # decoding starts here ...
        self._read = len(self._tokens)  # ... and what tokens before here say was taken already
        self._seen = ""  # everything decoded so far
        self._given = 0
        self.stopped = False

    def add(self, token: int) -> bool:
        """Take one more token. True when a stop string is complete; `text` then ends before it."""
        self._tokens.append(token)
        if self._stop:
            before = len(self._seen)
            self._decode_new()
            start = max(0, before - max(map(len, self._stop)))
            places = [place for stop in self._stop if (place := self._seen.find(stop, start)) >= 0]
            if places:
                self._seen, self.stopped = self._seen[: min(places)], True
        return self.stopped

    def take(self, last: bool = False) -> str:
        """The text that is new since the last call: with `last` all, else what no stop string can claim back."""
        if not self.stopped:
            self._decode_new(last)
        end = len(self._seen)
        if not last:
            end -= max((_overlap(self._seen, stop) for stop in self._stop), default=0)
        text = self._seen[self._given : end]
        self._given += len(text)
        return text

    @property
    def text(self) -> str:
        """All of it, once `take(last=True)` was called."""
        return self._seen

    def _decode_new(self, last: bool = False) -> None:
        """Add what the tokens since the last call say, unless it ends within a character that is still to come."""
        before = self._decode(self._tokens[self._window : self._read])
        after = self._decode(self._tokens[self._window :])
        if len(after) > len(before) and (last or not after.endswith(REPLACEMENT)):
            self._seen += after[len(before) :]
            self._window, self._read = self._read, len(self._tokens)

    def _decode(self, tokens: list[int]) -> str:
        text: str = self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return text


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of `text` are the beginning of `stop`."""
    for size in range(min(len(stop) - 1, len(text)), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0
