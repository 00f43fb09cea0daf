"""Coupled acceptance in plain torch (design.md 3.2): sample at a node, follow the child that agrees.

At absolute position n the target's token is y_n = argmax_v(log p_n(v) / T + g(seed, n, v)) after the filters;
a proposed token is accepted when it equals y_n. Only the nodes that the walk reaches are sampled.
"""

from collections.abc import Sequence

import numpy as np
import torch

from ..noise import reference as noise
from .filters import inverse_temperature, keep, lower_bound

Settings = tuple[float, int, float, float]  # temperature, top_k, top_p, min_p


def row_scores(logits: torch.Tensor, seed: int | list[int], positions, settings: Settings) -> torch.Tensor:
    """The perturbed scores of rows [..., V] that share their settings; `positions` a numpy array [...]."""
    temperature, top_k, top_p, min_p = settings
    scaled = logits.float()
    if temperature <= 0:
        return scaled
    scaled = scaled * inverse_temperature(temperature)
    scaled = keep(scaled, lower_bound(scaled, top_k, top_p, min_p))
    keys = noise.position_keys(seed, positions, 0)
    bits = noise.token_hash(*keys, noise.all_tokens(logits.shape[-1]))
    return noise.gumbel_from_bits(torch.from_numpy(bits)).add_(scaled)


def walk(picks, tokens: list[int], parents: list[int]) -> tuple[list[int], int]:
    """The accepted nodes after the root, and the bonus token; `picks(node, depth)` is the target's token."""
    path: list[int] = []
    node = 0
    while True:
        bonus = picks(node, len(path))
        for child in range(node + 1, len(tokens)):
            if parents[child] == node and tokens[child] == bonus:
                node = child
                path.append(child)
                break
        else:
            return path, bonus


def tree_accept(
    logits: torch.Tensor,
    tokens: list[list[int]],
    parents: list[list[int]],
    seed: Sequence[int],
    position: Sequence[int],
    settings: Sequence[Settings],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The public function's result, from values already checked; logits [B, N, V] on the CPU."""
    paths, lengths, bonuses = [], [], []
    for b, (nodes, links) in enumerate(zip(tokens, parents, strict=True)):
        path, bonus = walk(_sampler(logits[b], seed[b], position[b] + 1, settings[b]), nodes, links)
        lengths.append(len(path))
        bonuses.append(bonus)
        paths.append(path + [-1] * (len(nodes) - 1 - len(path)))
    return (
        torch.tensor(paths, dtype=torch.int64).reshape(len(paths), -1),
        torch.tensor(lengths),
        torch.tensor(bonuses),
    )


def _sampler(logits: torch.Tensor, seed: int, first: int, settings: Settings):
    """The target's token at a node of one tree, [N, V]; numpy's argmax is several times torch's on a CPU."""
    if settings[0] <= 0:
        rows = logits.float().numpy()
        return lambda node, depth: int(rows[node].argmax())

    def pick(node: int, depth: int) -> int:
        scores = row_scores(logits[node], seed, np.asarray(first + depth), settings)
        return int(scores.numpy().argmax())

    return pick
