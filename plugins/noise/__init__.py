"""Coupled Gumbel noise: one value for each (request seed, absolute position, token id, stream).

Target and draft add the same noise to their own logits, so that both tend to pick the same token, and
autoregressive and speculative decoding give the same tokens for the same seed (Gumbel coupling: Daliri,
Musco, Suresh, "Coupling without Communication and Drafter-Invariant Speculative Decoding", 2024).
The 32-bit values are the same on every device; the float noise made from them differs by rounding only.
"""

import operator
from collections.abc import Sequence

import torch

from . import reference

__all__ = ["gumbel", "noise_bits"]

Seed = int | Sequence[int] | torch.Tensor
Positions = int | Sequence[int] | torch.Tensor


def noise_bits(
    seed: Seed,
    positions: Positions,
    tokens: int | torch.Tensor,
    stream: int = 0,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """The generator's 32-bit words, as int32 of the same bits.

    Args:
        seed: the request's seed, of which the low 64 bits count; or one for each sequence, as a sequence
            of ints or an int64 tensor [B], that goes along the first dimension of `positions`.
        positions: absolute positions [...] (int, sequence or integer tensor; the low 32 bits count).
        tokens: the vocabulary size V for every token id 0..V-1, or token ids as an integer tensor: [V]
            for all positions, or [..., V] with the leading dimensions of `positions`.
        stream: an independent series for each number (0 is the coupled sampling noise).
        device: where to compute; by default where `positions`, `seed` or `tokens` are, else the CPU.

    Returns:
        int32 [..., V].

    Raises:
        TypeError: a seed, position or token that is not an integer.
        ValueError: shapes that do not fit together, or a device that is neither a CPU nor a CUDA GPU.
    """
    return _noise(seed, positions, tokens, stream, device, gumbel=False)


def gumbel(
    seed: Seed,
    positions: Positions,
    tokens: int | torch.Tensor,
    stream: int = 0,
    device: torch.device | str | None = None,
) -> torch.Tensor:
    """Standard Gumbel variates, float32 [..., V], from `noise_bits`; the same arguments and errors.

    For logits l, argmax_v(l_v / T + gumbel_v) is a sample of softmax(l / T). Values lie in [-2.81, 22.88].
    """
    return _noise(seed, positions, tokens, stream, device, gumbel=True)


def _noise(seed, positions, tokens, stream, device, gumbel):
    if device is None:
        device = next((x.device for x in (positions, seed, tokens) if isinstance(x, torch.Tensor)), None)
    device = torch.device(device or "cpu")
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"the noise is computed on a CPU or a CUDA GPU, got the device {device}")
    positions = _integers(positions, "positions", device)
    if not isinstance(seed, int):
        seed = _integers(seed, "seed", device)
        if positions.dim() == 0:
            positions = positions.expand(seed.shape)
        if seed.dim() != 1 or seed.shape[0] != positions.shape[0]:
            raise ValueError(
                f"seed must be one integer or a vector [B] along the first dimension of positions "
                f"{list(positions.shape)}, got shape {list(seed.shape)}"
            )
    columns = tokens
    if not isinstance(tokens, int):
        tokens = _integers(tokens, "tokens", device)
        if tokens.dim() != 1 and tokens.shape[:-1] != positions.shape:
            raise ValueError(
                f"tokens must be a vocabulary size, a vector [V] or {[*positions.shape, 'V']}, "
                f"got shape {list(tokens.shape)}"
            )
        columns = tokens.shape[-1]
    elif tokens < 1:
        raise ValueError(f"the vocabulary size must be at least 1, got {tokens}")
    if device.type != "cuda":
        seeds = seed if isinstance(seed, int) else seed.tolist()
        ids = reference.all_tokens(tokens) if isinstance(tokens, int) else tokens.numpy().astype("uint32")
        keys = reference.position_keys(seeds, positions.numpy(), stream)
        bits = torch.from_numpy(reference.token_hash(*keys, ids))
        return reference.gumbel_from_bits(bits) if gumbel else bits.view(torch.int32)
    return _launch(seed, positions, tokens, columns, stream, gumbel)


def _launch(seed, positions, tokens, columns, stream, gumbel):
    """The kernel on checked arguments: positions int64 [...], seed an int or int64 [B]."""
    from . import kernel

    if isinstance(seed, int):
        seed = torch.full((1,), as_int64(seed), dtype=torch.int64, device=positions.device)
    seeds = seed.reshape(-1, *[1] * (positions.dim() - 1)).expand(positions.shape).reshape(-1)
    ids = None if isinstance(tokens, int) else tokens.reshape(-1, columns) if tokens.dim() > 1 else tokens
    out = kernel.launch(seeds, positions.reshape(-1), ids, columns, stream, gumbel)
    return out.reshape(*positions.shape, columns)


def as_int64(seed: int) -> int:
    """The signed 64-bit integer of the same low 64 bits."""
    return (seed + (1 << 63)) % (1 << 64) - (1 << 63)


def _integers(value, name: str, device: torch.device) -> torch.Tensor:
    if not isinstance(value, torch.Tensor):
        try:
            if name == "seed":  # Python seeds may use the whole unsigned range of 64 bits
                value = [as_int64(operator.index(x)) for x in value]
            value = torch.tensor(value)
        except (TypeError, ValueError):
            raise TypeError(f"{name} must be integers, got {value!r:.80}") from None
    if value.numel() and (value.is_floating_point() or value.is_complex() or value.dtype == torch.bool):
        raise TypeError(f"{name} must be integers, got {value.dtype}")
    return value.to(device=device, dtype=torch.int64)
