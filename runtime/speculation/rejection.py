"""Rejection verification with public coins: `verification: rejection` (design 3.3).

Leviathan, Kalman, Matias, "Fast Inference from Transformers via Speculative Decoding", 2023, Algorithm 1 and
Appendix A.1: accept x ~ q with probability min(1, p(x) / q(x)), at the first rejection draw from norm(max(p - q, 0)),
after the last acceptance from p; then the tokens are distributed as the target's own, whatever q was.

The coins that decide come from the keyed generator, so the draft can foresee outcomes. That stays exact while no
proposal's value, number or presence depends on the coins of the round that verifies it. Hence every round has coins of
its own, and the draft has noise of its own: shared noise is for accept-when-equal only (design 3.2).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from saguaro.plugins import gumbel, noise_bits
from saguaro.plugins.tree_accept.filters import inverse_temperature, keep, lower_bound
from saguaro.runtime.speculation.tree import Outcome, Speculation

# The streams of round r are 4 r + kind; stream 0 is the coupled noise, kind 0 of other rounds is unused.
ACCEPTANCE, RESIDUAL, DRAFT = 1, 2, 3

Positions = int | Sequence[int] | torch.Tensor


@dataclass(frozen=True, eq=False)
class DrawnChain(Speculation):
    """A sampled chain. One that is no `DrawnChain` was proposed deterministically: its q is one-hot."""

    drawn_from: torch.Tensor  # float32 [K, V'], the q that each token was really drawn from


def filtered_distribution(
    logits: torch.Tensor, temperature: float, top_k: int = 0, top_p: float = 1.0, min_p: float = 0.0
) -> torch.Tensor:
    """The distribution that a request samples from: p of the target's logits, q of the draft's.

    Args:
        logits: [..., V] of any floating point type.
        temperature, top_k, top_p, min_p: in the ranges of `SamplingParams`, with the meaning of `tree_accept`; at
            temperature 0 all probability is the argmax's.

    Returns:
        float32 [..., V]; rows sum to 1.
    """
    logits = logits.float()
    if temperature <= 0:
        return torch.zeros_like(logits).scatter_(-1, logits.argmax(-1, keepdim=True), 1.0)
    scaled = logits * inverse_temperature(temperature)
    return keep(scaled, lower_bound(scaled, top_k, top_p, min_p)).softmax(-1)


def saguaro_sampling(distribution: torch.Tensor, top: int, weight: float) -> torch.Tensor:
    """The draft's distribution with the weight of its `top` likeliest tokens multiplied by `weight`, renormalised.

    Kumar, Dao, May, "Speculative Speculative Decoding", 2026: the residual then concentrates on the tokens that are in
    the speculation cache, for more hits and fewer acceptances.

    Args:
        distribution: float [..., V].
        top: F >= 0, how many bonus tokens are prepared at this place.
        weight: C in [0, 1]; 1 changes nothing. Neither does any C where the top F hold all the probability: that is
            the limit at C = 0, where nothing would be left to sample.

    Raises:
        ValueError: a weight outside [0, 1].
    """
    if not 0 <= weight <= 1:
        raise ValueError(f"the weight of Saguaro sampling must lie in [0, 1], got {weight}")
    best = distribution.topk(min(top, distribution.shape[-1]), dim=-1)
    scaled = distribution.scatter(-1, best.indices, best.values * weight)
    mass = scaled.sum(-1, keepdim=True)
    return torch.where(mass > 0, scaled / mass, distribution)


def draw(distribution: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """A sample for each row, int64 [...]: argmax(log distribution + noise), both [..., V] (the Gumbel-max trick)."""
    return (distribution.log() + noise).argmax(-1)


def acceptance_probability(p: float, q: float) -> float:
    """min(1, p / q) of a proposed token. A deterministic proposal has q = 1."""
    if p < q:
        return p / q
    return float(p > 0)  # what the target never says is rejected even where rounding left q = 0


def residual(p: torch.Tensor, token: int, q: torch.Tensor | None) -> torch.Tensor:
    """The distribution of the bonus token where `token` was rejected: norm(max(p - q, 0)).

    Args:
        p: float [V], the target's distribution.
        token: the rejected one.
        q: float [V'] that `token` was drawn from, V' <= V; tokens beyond have no probability. None: the proposal
            was deterministic, its q is one-hot and p with `token` removed is left.
    """
    rest = p.clone()
    if q is None:
        rest[token] = 0
    else:
        rest[: len(q)] -= q
        rest.clamp_(min=0)
    mass = rest.sum()
    # Where p = q a rejection has probability 0, but rounding can make one: any choice is exact then, NaN is not.
    return torch.where(mass > 0, rest / mass, p)


def verify_chain(
    tokens: Sequence[int],
    target: torch.Tensor,
    drawn_from: torch.Tensor | None,
    uniforms: Sequence[float],
    noise: Callable[[int], torch.Tensor],
) -> Outcome:
    """How many of x_1 ... x_K are accepted, and the bonus token t*.

    Args:
        tokens: the chain; it may be shorter than the lookahead, or empty.
        target: float [K + 1, V], p_0 ... p_K: the target's distributions after the bonus token, x_1, ...
        drawn_from: float [K, V'] on the same device, V' <= V: q_0 ... q_{K-1}, that each token was really drawn from
            (after temperature, filters and Saguaro sampling). None for a deterministic chain (argmax, n-gram).
        uniforms: K acceptance uniforms in (0, 1).
        noise: gives for k the Gumbel noise [V] of the bonus token after k accepted ones. Called once.

    Raises:
        ValueError: numbers of distributions or uniforms that do not fit the chain.
    """
    size = len(tokens)
    given = (len(target) - 1, size if drawn_from is None else len(drawn_from), len(uniforms))
    if given != (size, size, size):
        raise ValueError(
            f"a chain of {size} tokens needs {size + 1} target distributions, {size} draft distributions and {size} "
            f"uniforms, got {len(target)}, {'none' if drawn_from is None else len(drawn_from)} and {len(uniforms)}"
        )
    chain = torch.tensor(tokens, dtype=torch.int64, device=target.device).unsqueeze(1)
    p = target[:size].gather(1, chain).flatten().tolist()
    q = [1.0] * size if drawn_from is None else drawn_from.gather(1, chain).flatten().tolist()
    for k, u in enumerate(uniforms):
        if u >= acceptance_probability(p[k], q[k]):
            rest = residual(target[k], tokens[k], None if drawn_from is None else drawn_from[k])
            return Outcome(k, int(draw(rest, noise(k))))
    return Outcome(size, int(draw(target[size], noise(size))))


def acceptance_uniforms(seed: int, round: int, position: int, count: int) -> list[float]:
    """u of the tokens proposed at absolute positions `position, position + 1, ...`: `count` numbers in (0, 1).

    `round` is a number that no two rounds of the request share, below 2^29: a count, or the position of the bonus
    token that the round begins with. So are those below.
    """
    words = noise_bits(seed, range(position, position + count), 1, 4 * round + ACCEPTANCE)
    return [(word % 2**32 + 0.5) / 2**32 for word in words.flatten().tolist()]


def residual_noise(
    seed: int, round: int, positions: Positions, vocab_size: int, device: torch.device | str | None = None
) -> torch.Tensor:
    """Gumbel noise, float32 [..., V], that the verifying round draws a bonus token at these positions with."""
    return gumbel(seed, positions, vocab_size, 4 * round + RESIDUAL, device)


def draft_noise(
    seed: int, round: int, positions: Positions, vocab_size: int, device: torch.device | str | None = None
) -> torch.Tensor:
    """Gumbel noise, float32 [..., V], that the draft samples its proposals at these positions with.

    `round` is the one that is to verify them. It keeps the branches prepared in a round independent of the chain under
    verification, whose tokens influence which branches there are: were one noise used for both at a position, a
    branch's presence would depend on its own tokens' values.
    """
    return gumbel(seed, positions, vocab_size, 4 * round + DRAFT, device)
