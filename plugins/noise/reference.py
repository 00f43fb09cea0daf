"""The noise generator on the CPU: exact integer hashing to 32 bits, then one float transform.

Counter-based, so any (seed, position, token) can be computed alone, in any order and on any device:

1. `stream_keys`: a request's 64-bit seed and the stream number become two 32-bit constants.
2. `position_keys`: each absolute position turns these into two 32-bit keys.
3. `token_hash`: each token id goes through two rounds of a 32-bit mixer, one per key (a two-round
   Even-Mansour construction: at one position it is a permutation of the 32-bit words).
4. `gumbel_from_bits`: the 32-bit word h becomes a uniform v, and v the Gumbel variate.

The mixers are xorshift-multiply finalisers: MIX_A has the constants of "lowbias32" (C. Wellons,
"Prospecting for Hash Functions", 2018), MIX_B those of MurmurHash3's fmix32 (A. Appleby). All integer
arithmetic is modulo 2^32 and `kernel.py` repeats it bit for bit. It is written with numpy on the memory of
torch tensors, since numpy's uint32 shifts logically: torch's int32 shift needs a mask after it, which
makes the hash half as slow again.
"""

from functools import lru_cache

import numpy as np
import torch

MASK32 = 0xFFFFFFFF
MIX_A = (16, 0x7FEB352D, 15, 0x846CA68B, 16)
MIX_B = (16, 0x85EBCA6B, 13, 0xC2B2AE35, 16)
START_A = 0x9E3779B9  # 2^32 / golden ratio
START_B = 0xB7E15162  # the digits of e
STEP = 0x6D2B79F5  # added before each word, so that a run of zero words does not rest at mix(0) = 0
LARGEST_V = 1.0 - 2.0**-24  # the largest float32 below 1


def _mix_word(x: int, constants: tuple[int, ...]) -> int:
    first, multiplier_1, second, multiplier_2, third = constants
    x = ((x ^ (x >> first)) * multiplier_1) & MASK32
    x = ((x ^ (x >> second)) * multiplier_2) & MASK32
    return x ^ (x >> third)


@lru_cache(maxsize=4096)
def stream_keys(seed: int, stream: int) -> tuple[int, int]:
    """The two 32-bit constants of a request seed (its low 64 bits count) and a stream number."""
    low, high, stream = seed & MASK32, (seed >> 32) & MASK32, stream & MASK32
    a, b = START_A, START_B
    for word in (low, high, stream):
        a = _mix_word(((a + STEP) & MASK32) ^ word, MIX_A)
    for word in (high, stream, low):  # other order, other mixer: a collision in `a` says nothing about `b`
        b = _mix_word(((b + STEP) & MASK32) ^ word, MIX_B)
    return a, b


def _mix(x: np.ndarray, scratch: np.ndarray, constants: tuple[int, ...]) -> np.ndarray:
    """`_mix_word` on a uint32 array, in place; `scratch` is of the same shape."""
    first, multiplier_1, second, multiplier_2, third = constants
    np.right_shift(x, np.uint32(first), out=scratch)
    np.bitwise_xor(x, scratch, out=x)
    np.multiply(x, np.uint32(multiplier_1), out=x)
    np.right_shift(x, np.uint32(second), out=scratch)
    np.bitwise_xor(x, scratch, out=x)
    np.multiply(x, np.uint32(multiplier_2), out=x)
    np.right_shift(x, np.uint32(third), out=scratch)
    return np.bitwise_xor(x, scratch, out=x)


def position_keys(seed: int | list[int], positions: np.ndarray, stream: int) -> tuple[np.ndarray, np.ndarray]:
    """Two uint32 arrays shaped like `positions` [...]; a list of seeds goes along the first dimension."""
    if isinstance(seed, int):
        a, b = stream_keys(seed, stream)
        if positions.size <= 16:  # Python's integers beat thirty calls of numpy on a tiny array
            words = [p & MASK32 for p in positions.reshape(-1).tolist()]
            pairs = [[_mix_word(a ^ p, MIX_A) for p in words], [_mix_word(b ^ p, MIX_B) for p in words]]
            keys = np.array(pairs, dtype=np.uint32).reshape(2, *positions.shape)
            return keys[0], keys[1]
        constants = np.array((a, b), dtype=np.uint32)
    else:
        constants = np.array([stream_keys(s, stream) for s in seed], dtype=np.uint32).T
        constants = constants.reshape(2, len(seed), *[1] * (positions.ndim - 1))
    counter = positions.astype(np.uint32)  # keeps the low 32 bits
    key_a, key_b = np.asarray(counter ^ constants[0]), np.asarray(counter ^ constants[1])
    scratch = np.empty_like(key_a)
    return _mix(key_a, scratch, MIX_A), _mix(key_b, scratch, MIX_B)


@lru_cache(maxsize=8)
def all_tokens(vocab_size: int) -> np.ndarray:
    return np.arange(vocab_size, dtype=np.uint32)


def token_hash(key_a: np.ndarray, key_b: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """The noise bits, uint32: keys [...] and tokens (uint32) [V] or [..., V] give [..., V]."""
    x = np.bitwise_xor(np.asarray(key_a)[..., None], tokens)
    scratch = np.empty_like(x)
    _mix(x, scratch, MIX_A)
    np.bitwise_xor(x, np.asarray(key_b)[..., None], out=x)
    return _mix(x, scratch, MIX_B)


def gumbel_from_bits(bits: torch.Tensor) -> torch.Tensor:
    """float32 Gumbel variates from noise bits (int32 or uint32, read as unsigned).

    v = (h + 1/2) / 2^32, at most 1 - 2^-24, and g = -log(-log(1 - v)). Large g, which win an argmax, come
    from small v, where float32 is finest: the largest is 33 log 2 = 22.87, the smallest -2.81.
    """
    minus_v = bits.view(torch.uint32).to(torch.float32).add_(0.5).mul_(-(2.0**-32)).clamp_(min=-LARGEST_V)
    return minus_v.log1p_().neg_().log_().neg_()
