"""How many KV rows an engine's slots have: the builder compiles for them, the runtime relies on them."""

from __future__ import annotations

IDLE_ROWS = 8  # at the end of a draft's slot: where a sequence writes that has nothing to compute in a step


def target_rows(max_seq_len: int, lookahead: int) -> int:
    """The sequence and one speculation. One row more than is ever in view, since compilers tell "all" apart."""
    return max_seq_len + lookahead + 2


def draft_rows(max_seq_len: int, lookahead: int, budget: int) -> int:
    """The sequence, one speculation, K rows for each of the B branches, and the idle rows."""
    return max_seq_len + lookahead + 2 + lookahead * budget + IDLE_ROWS
