"""The paper's speed model (Theorem 7), so that predicted and measured speed stand side by side."""

from __future__ import annotations


def predicted_speedup(
    tokens_per_hit: float,
    tokens_per_miss: float,
    hit_rate: float,
    preparation: float,
    fallback: float,
) -> float:
    """Speed-up over autoregressive decoding: `(p E_h + (1-p) E_m) / (p max(1, T_p) + (1-p)(1 + T_b))`.

    Args:
        tokens_per_hit: E_h, mean tokens of a round whose speculation came from the cache.
        tokens_per_miss: E_m, mean tokens of a round whose speculation came from the fallback.
        hit_rate: p, share of rounds that were hits.
        preparation: T_p, time to prepare the cache, in units of one verification.
        fallback: T_b, time that the target waits for the fallback, in the same unit.
    """
    tokens = hit_rate * tokens_per_hit + (1 - hit_rate) * tokens_per_miss
    return tokens / (hit_rate * max(1.0, preparation) + (1 - hit_rate) * (1 + fallback))
