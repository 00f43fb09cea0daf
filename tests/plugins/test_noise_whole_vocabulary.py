"""A million draws, each over every one of 151,936 tokens.

Hashing them all would be 1.5e11 words. But the hash can be undone: at a position it is a permutation of the 32-bit
words, so that the tokens with the smallest words, which have the largest noise, can be looked up. So only the likely
tokens are hashed; an unlikely one can beat the best of them only with a word below some bound, and those that have
one are found by undoing the hash of every word below it. The winner is that of a whole row, which a test compares.
"""

import numpy as np
import torch

from saguaro.plugins import gumbel
from saguaro.plugins.noise import reference

from .chi_square import chi_square

VOCABULARY, LIKELY = 151_936, 1100
SEED = -3


def unmix(x: np.ndarray, constants: tuple[int, ...]) -> np.ndarray:
    """The inverse of the generator's mixer, on uint32."""
    first, multiplier_1, second, multiplier_2, third = constants
    for shift, multiplier in ((third, multiplier_2), (second, multiplier_1)):
        x = unshift(x, shift) * np.uint32(pow(multiplier, -1, 2**32))
    return unshift(x, first)


def unshift(x: np.ndarray, shift: int) -> np.ndarray:
    """The inverse of x ^ (x >> shift), for shifts that reach over a word in two steps."""
    return x ^ (x >> np.uint32(shift)) ^ (x >> np.uint32(2 * shift)) if shift < 16 else x ^ (x >> np.uint32(shift))


def winners(logits: torch.Tensor, draws: int) -> np.ndarray:
    """argmax over all tokens of logits + noise, at the positions 0, 1, 2, ..."""
    order = logits.argsort(descending=True)
    likely, is_likely = order[:LIKELY].sort().values, np.zeros(VOCABULARY, dtype=bool)
    is_likely[likely.numpy()] = True
    best, token = torch.empty(draws), torch.empty(draws, dtype=torch.int64)
    for start in range(0, draws, 64):
        positions = torch.arange(start, min(start + 64, draws))
        scores = gumbel(SEED, positions, likely).add_(logits[likely])
        best[positions], column = scores.max(-1)
        token[positions] = likely[column]
    # What an unlikely token's noise has to exceed, and the word that gives as much (a little more, for rounding).
    needed = best.double() - float(logits[order[LIKELY]])
    bound = ((1 - torch.exp(-torch.exp(-needed))) * 2**32 * 1.001 + 2).long().numpy()
    half_undone = unmix(np.arange(bound.max(), dtype=np.uint32), reference.MIX_B)
    by_bound = np.argsort(bound)  # rows that need about as many words go together
    for rows in np.split(by_bound, range(64, draws, 64)):
        key_a, key_b = reference.position_keys(SEED, rows, 0)
        words = half_undone[: bound[rows].max()]
        tokens = unmix(words ^ key_b[:, None], reference.MIX_A) ^ key_a[:, None]
        at, word = (tokens < VOCABULARY).nonzero()
        found, at = tokens[at, word].astype(np.int64), rows[at]
        found, at = (torch.from_numpy(array[~is_likely[found]]) for array in (found, at))
        scores = logits[found] + gumbel(SEED, at, found[:, None])[:, 0]
        for row, other, score in zip(at.tolist(), found.tolist(), scores, strict=True):
            if score > best[row]:
                best[row], token[row] = score, other
    return token.numpy()


def logits() -> torch.Tensor:
    """As steep as a language model's: the probability falls a little faster than the square of the rank."""
    ranks = torch.randperm(VOCABULARY, generator=torch.Generator().manual_seed(2))
    return -2.2 * (ranks + 2).log()


def test_the_winner_is_that_of_the_whole_row():
    """With logits so much flatter that half of the winners are unlikely tokens."""
    flat, draws = logits() * 0.5, 100
    scores = torch.cat([gumbel(SEED, [at], VOCABULARY) + flat for at in range(draws)])
    found = winners(flat, draws)
    assert np.array_equal(found, scores.argmax(-1).numpy())
    assert 0.2 < np.isin(found, flat.argsort(descending=True)[:LIKELY].numpy()).mean() < 0.8


def test_a_million_draws_follow_softmax():
    counts = np.bincount(winners(logits(), 1_000_000), minlength=VOCABULARY)
    assert counts.sum() == 1_000_000
    probabilities = logits().double().softmax(-1).numpy()
    assert chi_square(counts, probabilities) > 0.001
    unlikely = probabilities < np.sort(probabilities)[-LIKELY]
    assert abs(counts[unlikely].sum() / (1e6 * probabilities[unlikely].sum()) - 1) < 0.15
