"""Which nodes of a token tree the target agrees with, and the token it adds."""

from collections.abc import Sequence

import torch

from ..noise import gumbel
from . import checks, filters, reference

__all__ = ["perturbed_scores", "tree_accept"]

Numbers = float | Sequence[float] | torch.Tensor


def tree_accept(
    logits: torch.Tensor,
    tokens: torch.Tensor,
    parents: torch.Tensor,
    seed: int | Sequence[int] | torch.Tensor,
    position: int | Sequence[int] | torch.Tensor,
    temperature: Numbers,
    top_k: Numbers = 0,
    top_p: Numbers = 1.0,
    min_p: Numbers = 0.0,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Walks each sequence's tree by the target's own (coupled) samples; accept-when-equal, design.md 3.2.

    From the root: sample y from the node's logits with the noise of (seed, position of y); where a child
    carries y, go to it (the first, if several do), else stop. The bonus token is the last y.

    Args:
        logits: [B, N, V] float32, float16 or bfloat16 (computed in float32); row n predicts what follows
            node n.
        tokens: [B, N] int64 or int32, the nodes' token ids. Node 0 is the root: the last round's bonus
            token, already part of the output. A node with token -1 is padding and never walked to.
        parents: [B, N] int64 or int32; -1 at node 0, elsewhere an earlier node. (A padding node's parent
            may be anything.) Checked on the CPU only; a CUDA kernel ignores links that point forward.
        seed: 64-bit request seeds [B], or one for all.
        position: absolute position of each sequence's root [B]. A node's logits predict the token at
            position + depth(node) + 1, and that is the position which keys the noise.
        temperature: [B] or one number; 0 is greedy, and then the filters are off.
        top_k: [B] or one number; 0 or -1 is off.
        top_p: [B] or one number in (0, 1]; 1 is off.
        min_p: [B] or one number in [0, 1]; 0 is off.
            The filters apply in the order temperature, min-p, top-k, top-p, as in vLLM; tokens that tie
            with the last one kept are kept.

    Returns:
        path [B, A] int64 with A = N - 1: the nodes walked to after the root, then -1;
        length [B] int64: how many were accepted; bonus [B] int64: the token after them.

    On CUDA the per-sequence arguments may be CUDA tensors, and then nothing waits for the host and the
    call can be captured in a graph; the values of tensors are not checked there.

    Raises:
        TypeError: logits that are not floating point; tokens, parents, seeds or positions that are not integers.
        ValueError: shapes or devices that do not fit, settings out of range, a parent that points forward.
    """
    checks.logits_and_tree(logits, tokens, parents)
    batch = logits.shape[0]
    if logits.device.type == "cuda":
        from . import kernel

        if not any(isinstance(value, torch.Tensor) for value in (temperature, top_k, top_p, min_p)):
            checks.sampling_settings(batch, temperature, top_k, top_p, min_p)
        arguments = kernel.device_arguments(logits.device, batch, seed, position, temperature, top_k, top_p, min_p)
        return kernel.launch(logits, tokens, parents, *arguments)
    settings = checks.sampling_settings(batch, temperature, top_k, top_p, min_p)
    token_lists, parent_lists = tokens.tolist(), parents.tolist()
    checks.tree(token_lists, parent_lists)
    return reference.tree_accept(
        logits,
        token_lists,
        parent_lists,
        checks.per_sequence(seed, batch, "seed", whole=True),
        checks.per_sequence(position, batch, "position", whole=True),
        settings,
    )


def perturbed_scores(
    logits: torch.Tensor,
    seed: int | Sequence[int] | torch.Tensor,
    positions: int | Sequence[int] | torch.Tensor,
    temperature: Numbers,
    top_k: Numbers = 0,
    top_p: Numbers = 1.0,
    min_p: Numbers = 0.0,
) -> torch.Tensor:
    """Logits over temperature, -inf where filtered out, plus the coupled noise; argmax is the sample.

    The ranking of the scores is the order in which the tokens would be drawn without replacement, so the
    draft also reads its runners-up from it. At temperature 0 the scores are the logits as they are.

    Args:
        logits: [V] or [B, ..., V] float32, float16 or bfloat16.
        seed: one request seed, or [B] along the first dimension.
        positions: the absolute position of the token being sampled (not of the one before it), of the
            leading shape of `logits`.
        temperature, top_k, top_p, min_p: numbers, or [B] along the first dimension, as in `tree_accept`.

    Returns:
        float32, of the shape of `logits`. The input is not changed; at temperature 0 it may be returned.

    Raises:
        TypeError, ValueError: as in `tree_accept`.
    """
    if not isinstance(logits, torch.Tensor) or logits.dtype not in checks.FLOATS:
        got = logits.dtype if isinstance(logits, torch.Tensor) else type(logits).__name__
        raise TypeError(f"logits must be a float32, float16 or bfloat16 tensor, got {got}")
    if not logits.dim() or not logits.shape[-1]:
        raise ValueError(f"logits must be [..., V], got shape {list(logits.shape)}")
    if isinstance(positions, torch.Tensor):
        shape = positions.shape
    else:
        positions = torch.tensor(positions)
        shape = positions.shape
    if shape != logits.shape[:-1]:
        raise ValueError(f"positions must be {list(logits.shape[:-1])} like logits, got {list(shape)}")
    values = (temperature, top_k, top_p, min_p)
    if logits.device.type == "cuda" and any(isinstance(v, torch.Tensor) and v.is_cuda for v in values):
        return _scores_without_waiting(logits, seed, positions, *values)
    batch = logits.shape[0] if logits.dim() > 1 else 1
    settings = checks.sampling_settings(batch, *values)
    if any(s != settings[0] for s in settings):
        columns = [torch.tensor(c, device=logits.device) for c in zip(*settings, strict=True)]
        return _scores_without_waiting(logits, seed, positions, *columns)
    if settings[0][0] <= 0:
        return logits.float()
    scaled = logits.float() * filters.inverse_temperature(settings[0][0])
    scaled = filters.keep(scaled, filters.lower_bound(scaled, *settings[0][1:]))
    return gumbel(seed, positions, logits.shape[-1], device=logits.device).add_(scaled)


def _scores_without_waiting(logits, seed, positions, *settings) -> torch.Tensor:
    """`perturbed_scores` with settings in tensors [B] whose values the host does not read."""
    batch = logits.shape[0]
    columns = []
    for value in settings:
        value = torch.as_tensor(value, dtype=torch.float32, device=logits.device)
        columns.append(value.expand(batch).reshape(batch, *[1] * (logits.dim() - 1)))
    temperature, top_k, top_p, min_p = columns
    hot = temperature > 0
    scaled = logits.float() * filters.inverse_temperature(temperature)
    kept = filters.keep(scaled, filters.lower_bound(scaled, top_k.long(), top_p, min_p))
    noise = gumbel(seed, positions, logits.shape[-1], device=logits.device)
    return torch.where(hot, noise.add_(kept), scaled)
