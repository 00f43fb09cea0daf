"""Prompt lookup: speculate what followed the same tokens earlier in the prompt and output (fallback `ngram`).

A. Saxena, "Prompt Lookup Decoding", 2023; vLLM's method `ngram` and transformers' `prompt_lookup_num_tokens`.
"""

from __future__ import annotations

from collections.abc import Sequence

PENDING = 16  # tokens that are entered together, unless something is looked up before: few at a time cost far more


class NgramIndex:
    """Where each n-gram of one sequence's tokens last occurred, brought up to date as tokens are accepted.

    A hash map over the n-grams of all lengths: what a token costs in time and memory does not depend on the text, so
    a text that repeats itself everywhere is no slower than another.
    """

    def __init__(self, tokens: Sequence[int] = (), *, shortest: int = 1, longest: int = 5):
        """Matches of `longest` tokens are looked for first, then shorter ones down to `shortest`.

        Five is vLLM's default, and more gains nothing. One is where transformers ends too: this is a fallback, the
        target's pass runs with or without something to verify, so a doubtful guess beats none (on source code 1.41
        tokens per round, against 1.31 from two tokens on: benchmarks/ngram.py).

        Raises:
            ValueError: unless 1 <= shortest <= longest.
        """
        if not 1 <= shortest <= longest:
            raise ValueError(f"n-gram lengths must satisfy 1 <= shortest <= longest, got {shortest} and {longest}")
        self._lengths = range(longest, shortest - 1, -1)
        self._tokens: list[int] = []
        self._next: dict[tuple[int, ...], int] = {}  # an n-gram -> where the token after its last occurrence is
        self._entered = 0  # tokens whose n-grams are there
        self.extend(tokens)

    def __len__(self) -> int:
        return len(self._tokens)

    def extend(self, tokens: Sequence[int]) -> None:
        """Take in the tokens that come next."""
        self._tokens += tokens
        if len(self._tokens) - self._entered >= PENDING:
            self._enter()

    def propose(self, lookahead: int) -> list[int]:
        """`lookahead` tokens that followed the latest earlier occurrence of the longest suffix; [] if none occurred.

        Where fewer follow, the proposal goes on with its own first tokens: a loop is predicted to full length.
        """
        self._enter()
        tokens = self._tokens
        for n in self._lengths:
            start = self._next.get(tuple(tokens[-n:]))
            if start is not None:
                period = len(tokens) - start
                return [tokens[start + i % period] for i in range(lookahead)]
        return []

    def _enter(self) -> None:
        tokens, entered = self._tokens, self._entered
        for n in self._lengths:
            # An n-gram is entered once a token follows it, so that the suffix does not find itself.
            for after in range(max(n, entered), len(tokens)):
                self._next[tuple(tokens[after - n : after])] = after
        self._entered = len(tokens)
