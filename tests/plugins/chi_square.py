"""How well counts follow probabilities."""

import numpy as np
from scipy import stats


def chi_square(counts: np.ndarray, probabilities: np.ndarray) -> float:
    """p-value; classes expected fewer than 8 times are merged."""
    order = np.argsort(probabilities)
    expected = probabilities[order] * counts.sum()
    group = np.minimum(np.cumsum(expected) // 8, np.searchsorted(expected, 8) + np.arange(len(expected)))
    _, group = np.unique(group, return_inverse=True)
    observed = np.bincount(group, counts[order])
    merged = np.bincount(group, expected)
    keep = merged > 0
    return stats.chisquare(observed[keep], merged[keep] * observed.sum() / merged[keep].sum()).pvalue
