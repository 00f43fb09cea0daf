"""How many KV rows an engine's slots have: the builder compiles for them, the runtime relies on them."""

from __future__ import annotations


def idle_rows(nodes: int) -> int:
    """At the end of a draft's slot: where a sequence writes that needs no draft while others are drafted for."""
    return 2 * nodes + 4


def target_rows(max_seq_len: int, lookahead: int, tree_nodes: int = 0) -> int:
    """The sequence and one speculation. One row more than is ever in view, since compilers tell "all" apart."""
    return max_seq_len + max(lookahead, tree_nodes) + 2


def draft_rows(max_seq_len: int, lookahead: int, budget: int, tree_nodes: int = 0) -> int:
    """The sequence, one speculation, K + 1 rows for each of the B branches, and the idle rows."""
    nodes = max(lookahead, tree_nodes)
    return max_seq_len + nodes + 2 + (lookahead + 1) * budget + idle_rows(nodes)
