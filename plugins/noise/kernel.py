"""The same generator in Triton: device functions for other kernels, and a kernel that writes noise out.

The integer part repeats `reference.py` bit for bit. The float part differs from it by rounding only:
-log(1 - v) is summed as a series for v < 1/2, because the GPU's fast logarithm has an absolute error
there that would ruin the small v, which are the ones that win an argmax.
"""

import torch
import triton
import triton.language as tl

OPTIONS = {"num_warps": 4, "enable_fp_fusion": False}


@triton.jit
def mix_a(x):
    x = (x ^ (x >> 16)) * 0x7FEB352D
    x = (x ^ (x >> 15)) * 0x846CA68B
    return x ^ (x >> 16)


@triton.jit
def mix_b(x):
    x = (x ^ (x >> 16)) * 0x85EBCA6B
    x = (x ^ (x >> 13)) * 0xC2B2AE35
    return x ^ (x >> 16)


@triton.jit
def position_keys(seed, stream, position):
    """Two uint32 keys from an int64 seed, an integer stream and a position (scalars or blocks)."""
    low = seed.to(tl.uint32)
    high = (seed >> 32).to(tl.uint32)
    other = stream.to(tl.uint32)
    a = mix_a(low ^ 0x0B62F3AE)  # START_A + STEP
    a = mix_a((a + 0x6D2B79F5) ^ high)
    a = mix_a((a + 0x6D2B79F5) ^ other)
    b = mix_b(high ^ 0x250CCB57)  # START_B + STEP
    b = mix_b((b + 0x6D2B79F5) ^ other)
    b = mix_b((b + 0x6D2B79F5) ^ low)
    counter = position.to(tl.uint32)
    return mix_a(a ^ counter), mix_b(b ^ counter)


@triton.jit
def token_hash(key_a, key_b, token):
    return mix_b(mix_a(key_a ^ token.to(tl.uint32)) ^ key_b)


@triton.jit
def gumbel_from_bits(bits):
    v = (bits.to(tl.float32) + 0.5) * 2.3283064365386963e-10  # 2^-32
    v = tl.minimum(v, 0.999999940395355224609375)  # 1 - 2^-24
    # -log(1 - v) = 2 atanh(s), s = v / (2 - v); seven terms are exact to float32 for v <= 1/2
    s = v / (2.0 - v)
    z = s * s
    series = 1.0 / 11 + z * (1.0 / 13)
    series = 1.0 / 9 + z * series
    series = 1.0 / 7 + z * series
    series = 1.0 / 5 + z * series
    series = 1.0 / 3 + z * series
    small = 2.0 * (s + s * z * series)
    exponential = tl.where(v < 0.5, small, -tl.log(1.0 - v))
    return -tl.log(exponential)


@triton.jit(do_not_specialize=["stream"])
def noise_kernel(
    seed_ptr, position_ptr, token_ptr, stream, token_row_stride, columns, out_ptr,
    HAS_TOKENS: tl.constexpr, GUMBEL: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One program a row and block of columns; seeds and positions [R] int64, out [R, columns]."""
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < columns
    key_a, key_b = position_keys(tl.load(seed_ptr + row), stream, tl.load(position_ptr + row))
    token = column
    if HAS_TOKENS:
        token = tl.load(token_ptr + row * token_row_stride + column, mask=inside, other=0)
    bits = token_hash(key_a, key_b, token)
    if GUMBEL:
        tl.store(out_ptr + row * columns + column, gumbel_from_bits(bits), mask=inside)
    else:
        tl.store(out_ptr + row * columns + column, bits.to(tl.int32, bitcast=True), mask=inside)


def launch(seeds, positions, tokens, columns, stream, gumbel, block=1024) -> torch.Tensor:
    """seeds and positions [R] int64, tokens None, [columns] or [R, columns]; returns [R, columns]."""
    seeds, positions = seeds.contiguous(), positions.contiguous()
    tokens = None if tokens is None else tokens.contiguous()
    rows = positions.shape[0]
    out = torch.empty(rows, columns, dtype=torch.float32 if gumbel else torch.int32, device=positions.device)
    if out.numel():
        block = min(block, triton.next_power_of_2(columns))
        per_row = tokens is not None and tokens.dim() == 2
        noise_kernel[(rows, triton.cdiv(columns, block))](
            seeds, positions, positions if tokens is None else tokens, stream,
            columns if per_row else 0, columns, out,
            HAS_TOKENS=tokens is not None, GUMBEL=gumbel, BLOCK=block, **OPTIONS,
        )  # fmt: skip
    return out
