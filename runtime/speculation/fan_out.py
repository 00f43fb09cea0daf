"""How many bonus tokens to prepare after each number of accepted tokens: F_0 ... F_K with sum B."""

from __future__ import annotations


def uniform_fan_out(lookahead: int, budget: int) -> list[int]:
    """B shared evenly over the K + 1 positions; what does not divide goes to the first ones."""
    share, left = divmod(budget, lookahead + 1)
    return [share + (k < left) for k in range(lookahead + 1)]


def geometric_fan_out(acceptance: float, exponent: float, lookahead: int, budget: int) -> list[int]:
    """The capped geometric fan-out of the paper's Theorem 12, in integers by largest remainder.

    With P(k) = a^k (1 - a) for k < K and a^K for k = K, and misses P(miss | F) = F^-r, the hit rate under
    sum F_k = B is greatest at F_k = F_0 a^(k / (1 + r)), F_K = F_0 a^(K / (1 + r)) (1 - a)^(-1 / (1 + r)).
    Every position gets at least one where the budget allows.

    Args:
        acceptance: a, the probability that a speculated token is accepted, in (0, 1).
        exponent: r > 0, how fast misses fall with fan-out.
        lookahead: K >= 0.
        budget: B >= 1.
    """
    a = min(max(acceptance, 1e-6), 1 - 1e-6)
    power = 1 / (1 + exponent)
    weights = [a ** (k * power) for k in range(lookahead)]
    weights.append(a ** (lookahead * power) * (1 - a) ** -power if lookahead else 1.0)
    if budget <= lookahead + 1:  # not even one each: the likeliest positions get theirs
        best = sorted(range(lookahead + 1), key=lambda k: -weights[k])[:budget]
        return [int(k in best) for k in range(lookahead + 1)]
    return _largest_remainder(weights, budget)


def _largest_remainder(weights: list[float], budget: int) -> list[int]:
    """Integers that sum to `budget`, at least one each, as close to proportional to `weights` as that allows."""
    fixed: set[int] = set()
    while True:  # positions whose share is below one are given one, and the rest is shared again
        free = [i for i in range(len(weights)) if i not in fixed]
        scale = (budget - len(fixed)) / sum(weights[i] for i in free)
        low = {i for i in free if weights[i] * scale < 1}
        if not low:
            break
        fixed |= low
    shares = [1.0 if i in fixed else weights[i] * scale for i in range(len(weights))]
    result = [int(share) for share in shares]
    by_remainder = sorted(range(len(shares)), key=lambda i: result[i] - shares[i])
    for i in by_remainder[: budget - sum(result)]:
        result[i] += 1
    return result
