"""Temperature, min-p, top-k and top-p, in this order, as one lower bound on the scaled logits.

The order and the meaning of each are vLLM's. A filter is a *value* bound: tokens whose logit equals the
last one kept are kept too, in top-k and in top-p. So ties depend on no sorting order, and a kernel
that never sorts keeps the same set.
"""

import math

import numpy as np
import torch

NUCLEUS = 256  # top-p looks this far down the ranking before it sorts the whole vocabulary


def inverse_temperature(temperature: float | torch.Tensor) -> float | torch.Tensor:
    """1 / T rounded to float32, so that scaling is one multiplication with the same result everywhere.

    At T = 0 (greedy) it is 1. Tensors are float32.
    """
    if isinstance(temperature, torch.Tensor):
        return torch.where(temperature > 0, temperature, 1.0).reciprocal()
    return float(np.float32(1) / np.float32(temperature)) if temperature > 0 else 1.0


def lower_bound(scaled: torch.Tensor, top_k, top_p, min_p) -> torch.Tensor | None:
    """The smallest scaled logit that the filters keep, [..., 1], or None when all of them are off.

    Args:
        scaled: float32 [..., V], logits divided by the temperature.
        top_k, top_p, min_p: numbers, or tensors [..., 1] that broadcast; off are top_k <= 0 or >= V,
            top_p >= 1 and min_p <= 0. Tensors cost a whole sort, and nothing waits for their values.
    """
    vocabulary, bound = scaled.shape[-1], None
    if isinstance(min_p, torch.Tensor):
        bound = scaled.amax(-1, keepdim=True) + min_p.clamp(min=0).log()  # log 0 = -inf: off
    elif min_p > 0:
        bound = scaled.amax(-1, keepdim=True) + math.log(min_p)

    if isinstance(top_k, torch.Tensor):
        k = torch.where(top_k > 0, top_k, vocabulary).clamp(max=vocabulary)
        k = k.expand(*scaled.shape[:-1], 1).long()
        bound = _higher(bound, scaled.sort(-1, descending=True).values.gather(-1, k - 1))
    elif 0 < top_k < vocabulary:
        bound = _higher(bound, scaled.topk(top_k, -1).values[..., -1:])

    if isinstance(top_p, torch.Tensor) or top_p < 1:
        bound = _higher(bound, _nucleus_edge(keep(scaled, bound), top_p))
    return bound


def keep(scaled: torch.Tensor, bound: torch.Tensor | None) -> torch.Tensor:
    """The scaled logits with those under the bound at -inf."""
    return scaled if bound is None else torch.where(scaled < bound, -math.inf, scaled)


def _higher(bound: torch.Tensor | None, other: torch.Tensor) -> torch.Tensor:
    return other if bound is None else torch.maximum(bound, other)


def _nucleus_edge(scaled: torch.Tensor, top_p) -> torch.Tensor:
    """The smallest logit of the nucleus: the tokens with less than top_p of the mass strictly above them."""
    vocabulary = scaled.shape[-1]
    total = scaled.logsumexp(-1, keepdim=True)
    widths: tuple[int, ...] = (vocabulary,)
    if isinstance(top_p, torch.Tensor):
        top_p = torch.where(top_p < 1, top_p, 2.0)  # 2: off even where rounding lets the sum exceed 1
    elif vocabulary > NUCLEUS and scaled.device.type == "cpu":
        widths = (NUCLEUS, vocabulary)
    for width in widths:
        ranked = scaled.topk(width, -1).values
        mass = (ranked - total).exp()
        above = mass.cumsum(-1) - mass
        if width == vocabulary or bool((above[..., -1] >= top_p).all()):
            break
    return torch.where(above < top_p, ranked, math.inf).amin(-1, keepdim=True)
