"""How many KV rows an engine's slots have: the builder compiles for them, the runtime relies on them."""

from __future__ import annotations


def idle_rows(lookahead: int) -> int:
    """At the end of a draft's slot: where a sequence writes that needs no draft while others are drafted for."""
    return 2 * lookahead + 4


def target_rows(max_seq_len: int, lookahead: int) -> int:
    """The sequence and one speculation. One row more than is ever in view, since compilers tell "all" apart."""
    return max_seq_len + lookahead + 2


def draft_rows(max_seq_len: int, lookahead: int, budget: int) -> int:
    """The sequence, one speculation, K + 1 rows for each of the B branches, and the idle rows."""
    return max_seq_len + lookahead + 2 + (lookahead + 1) * budget + idle_rows(lookahead)
