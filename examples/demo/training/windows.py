"""From token streams to training windows.

The stream is every document in turn, each after an end-of-text token. Real prompts begin with a `def`
or `class` line and nothing before it, so many windows start at such a line, right after an end-of-text
token, as if a document began there.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

SHARE_OF_DEFINITIONS = 0.4
SHARE_OF_DOCUMENTS = 0.05
SHARE_OF_SPLIT_BREAKS = 0.03


def encode_stream(tokenizer: PreTrainedTokenizerFast, texts: Sequence[str]) -> np.ndarray:
    """All texts as one array of ids; the tokenizer itself puts the end-of-text token before each."""
    encoded = tokenizer.backend_tokenizer.encode_batch(list(texts))
    pieces = [np.array(one.ids, dtype=np.int16) for one in encoded]
    return np.concatenate([*pieces, np.array([tokenizer.eos_token_id], dtype=np.int16)])


class WindowSampler:
    """Draws random windows from one stream."""

    def __init__(self, stream: np.ndarray, tokenizer: PreTrainedTokenizerFast, seed: int) -> None:
        self.stream = stream
        self.end = tokenizer.eos_token_id
        self.random = np.random.default_rng(seed)
        vocabulary = tokenizer.get_vocab()
        text = {index: tokenizer.decode([index]) for index in vocabulary.values()}
        size = len(vocabulary)
        breaks = np.zeros(size, dtype=bool)  # tokens after which a line starts in column 0
        opens = np.zeros(size, dtype=bool)  # tokens that open a definition
        self.first = np.arange(size, dtype=np.int16)  # a line break's token without its indentation ...
        self.second = np.full(size, -1, dtype=np.int16)  # ... and the indentation's own token
        of_text = {piece: index for index, piece in text.items()}
        for index, piece in text.items():
            breaks[index] = piece.endswith("\n")
            opens[index] = piece in ("def", "class", "async", "@")
            head, newline, indent = piece.rpartition("\n")
            if newline and indent and head + newline in of_text and indent in of_text:
                self.first[index], self.second[index] = of_text[head + newline], of_text[indent]
        self.documents = np.flatnonzero(stream == self.end)[:-1]
        self.definitions = 1 + np.flatnonzero(breaks[stream[:-1]] & opens[stream[1:]])

    def draw(self, count: int, length: int) -> Tensor:
        """`count` windows of `length` tokens, int64."""
        return torch.from_numpy(np.stack([self._draw_one(length) for _ in range(count)]).astype(np.int64))

    def draw_definition(self, length: int) -> Tensor:
        """One window that starts at a definition, after an end-of-text token."""
        last = np.searchsorted(self.definitions, len(self.stream) - length)
        start = self.random.choice(self.definitions[:last])
        piece = np.concatenate([[self.end], self.stream[start : start + length - 1]])
        return torch.from_numpy(piece.astype(np.int64))

    def _draw_one(self, length: int) -> np.ndarray:
        kind = self.random.random()
        if kind < SHARE_OF_DEFINITIONS:
            start = self.random.choice(self.definitions)
            piece = np.concatenate([[self.end], self.stream[start : start + length]])
        elif kind < SHARE_OF_DEFINITIONS + SHARE_OF_DOCUMENTS:
            start = self.random.choice(self.documents)
            piece = self.stream[start : start + length]
        else:
            start = self.random.integers(0, len(self.stream) - length)
            piece = self.stream[start : start + length]
        if len(piece) < length:
            return self._draw_one(length)
        return self._split_some_breaks(piece)[:length]

    def _split_some_breaks(self, piece: np.ndarray) -> np.ndarray:
        """Write a few line breaks and their indentation as two tokens.

        A prompt may end in a line break, and then the indentation has to come as a token of its own.
        """
        chosen = (self.second[piece] >= 0) & (self.random.random(len(piece)) < SHARE_OF_SPLIT_BREAKS)
        longer = np.repeat(piece, 1 + chosen)
        at = np.flatnonzero(chosen) + np.arange(chosen.sum())
        longer[at], longer[at + 1] = self.first[piece[chosen]], self.second[piece[chosen]]
        return longer
