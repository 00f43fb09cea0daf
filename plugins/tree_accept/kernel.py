"""Coupled acceptance in Triton: one pass over all logits, then a walk that mostly reads what the pass left.

`sample_kernel` (one program for each node and slice of the vocabulary) leaves each slice's best perturbed
score, its token, and its largest logit. `walk_kernel` (one program for each sequence) joins the slices of
the node it stands at and steps to the child that carries the winner.

Filters need no sort. What min-p, top-k and top-p keep is always "the logits of at least some value", so a
candidate is kept when fewer than k tokens, with less than p of the mass, lie strictly above its logit.
If it is not kept, neither is anything at or under its logit, and the next candidate is the best perturbed
score strictly above. Each try is one pass over that node's row, which counts and finds the next candidate
at once; the first is kept with probability p. (The same idea without noise: "Sorting-free GPU kernels for LLM
sampling", FlashInfer, 2025.) Only where top-k and top-p are both on is the k-th logit searched, by bisection
on the floats' ordered bits, in at most 32 passes, because top-p renormalises over what top-k left.
"""

import torch
import triton
import triton.language as tl

from ..noise import as_int64
from ..noise.kernel import gumbel_from_bits, position_keys, token_hash
from . import checks

SLICE = 4096  # tokens of one program in the first pass: a vocabulary of 128k makes 32 programs a node
# No fused multiply-add, so that l / T + g rounds as on the CPU. A walk reads its rows with 8 warps.
SAMPLE_OPTIONS = {"num_warps": 4, "enable_fp_fusion": False}
WALK_OPTIONS = {"num_warps": 8, "enable_fp_fusion": False, "maxnreg": 128}
MINUS_INF = tl.constexpr(float("-inf"))
NO_TOKEN = tl.constexpr(2147483647)


@triton.jit
def inverse_temperature(temperature):
    """As in filters.py: correctly rounded, so that scaled logits are the same bits as on the CPU."""
    safe = tl.where(temperature > 0, temperature, 1.0)
    return tl.div_rn(tl.full((), 1.0, tl.float32), safe)


@triton.jit
def score_block(row_ptr, token, vocab_size, scale, noisy, key_a, key_b):
    """Scaled logits and perturbed scores of a block of tokens; -inf past the vocabulary's end."""
    inside = token < vocab_size
    scaled = tl.load(row_ptr + token, mask=inside, other=MINUS_INF).to(tl.float32) * scale
    noise = tl.where(noisy, gumbel_from_bits(token_hash(key_a, key_b, token)), 0.0)
    return scaled, scaled + noise


@triton.jit
def best_of(scores, tokens):
    """The largest score and its token, the lowest of equal ones."""
    best = tl.max(scores, 0)
    return best, tl.min(tl.where(scores == best, tokens, NO_TOKEN), 0)


@triton.jit
def node_depth(parents_ptr, node):
    """Links from the node up to the root; a link that does not point back ends the climb."""
    depth = node * 0
    while node > 0:
        parent = tl.load(parents_ptr + node).to(tl.int32)
        node = tl.where(parent < node, parent, 0)
        depth += 1
    return depth


@triton.jit
def sample_kernel(
    logits_ptr, tokens_ptr, parents_ptr, seed_ptr, position_ptr, temperature_ptr,
    nodes, vocab_size, slices, score_ptr, token_ptr, top_ptr,
    SLICE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Grid (B * N, slices). Writes score, token and largest scaled logit to [B * N, slices]."""
    row = tl.program_id(0).to(tl.int64)
    slice_ = tl.program_id(1)
    batch = row // nodes
    node = (row % nodes).to(tl.int32)
    if (tl.load(tokens_ptr + row) >= 0) | (node == 0):  # not padding
        temperature = tl.load(temperature_ptr + batch)
        scale = inverse_temperature(temperature)
        position = tl.load(position_ptr + batch) + node_depth(parents_ptr + batch * nodes, node) + 1
        key_a, key_b = position_keys(tl.load(seed_ptr + batch), tl.zeros((), tl.int32), position)
        best = tl.full((BLOCK,), MINUS_INF, tl.float32)
        winner = tl.full((BLOCK,), NO_TOKEN, tl.int32)
        top = tl.full((BLOCK,), MINUS_INF, tl.float32)
        for start in range(0, SLICE, BLOCK):
            token = slice_ * SLICE + start + tl.arange(0, BLOCK)
            scaled, score = score_block(
                logits_ptr + row * vocab_size, token, vocab_size, scale, temperature > 0, key_a, key_b
            )
            better = score > best
            winner = tl.where(better, token, winner)
            best = tl.where(better, score, best)
            top = tl.maximum(top, scaled)
        value, index = best_of(best, winner)
        tl.store(score_ptr + row * slices + slice_, value)
        tl.store(token_ptr + row * slices + slice_, index)
        tl.store(top_ptr + row * slices + slice_, tl.max(top, 0))


@triton.jit
def scan_row(row_ptr, vocab_size, scale, key_a, key_b, lower, above, top, BLOCK: tl.constexpr):
    """Over tokens with logit >= lower and > above: count, mass / e^top, the best token and its logit."""
    count = tl.zeros((BLOCK,), tl.int32)
    mass = tl.zeros((BLOCK,), tl.float32)
    best = tl.full((BLOCK,), MINUS_INF, tl.float32)
    winner = tl.full((BLOCK,), NO_TOKEN, tl.int32)
    for start in range(0, vocab_size, BLOCK):
        token = start + tl.arange(0, BLOCK)
        scaled, score = score_block(row_ptr, token, vocab_size, scale, True, key_a, key_b)
        inside = (scaled >= lower) & (scaled > above)
        count += inside.to(tl.int32)
        mass += tl.where(inside, tl.exp(scaled - top), 0.0)
        better = inside & (score > best)
        winner = tl.where(better, token, winner)
        best = tl.where(better, score, best)
    _, index = best_of(best, winner)
    safe = tl.minimum(index, vocab_size - 1)
    value = tl.load(row_ptr + safe).to(tl.float32) * scale
    return tl.sum(count, 0), tl.sum(mass, 0), safe, value


@triton.jit
def ordered_bits(x):
    """int32 keys that sort like the floats."""
    bits = x.to(tl.int32, bitcast=True)
    return bits ^ ((bits >> 31) & 0x7FFFFFFF)


@triton.jit
def kth_largest(row_ptr, vocab_size, scale, k, BLOCK: tl.constexpr):
    """The k-th largest scaled logit, or another value that exactly k of them reach."""
    low = tl.full((), -2139095041, tl.int64)  # the key of -inf, which all of them reach
    high = tl.full((), 2139095040, tl.int64)  # the key of +inf
    while low < high:
        middle = (low + high + 1) >> 1
        count = tl.zeros((BLOCK,), tl.int32)
        for start in range(0, vocab_size, BLOCK):
            token = start + tl.arange(0, BLOCK)
            inside = token < vocab_size
            scaled = tl.load(row_ptr + token, mask=inside, other=MINUS_INF).to(tl.float32) * scale
            count += (inside & (ordered_bits(scaled) >= middle.to(tl.int32))).to(tl.int32)
        reached = tl.sum(count, 0)
        low = tl.where(reached >= k, middle, low)
        high = tl.where(reached == k, middle, tl.where(reached > k, high, middle - 1))
    key = low.to(tl.int32)
    return (key ^ ((key >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)


@triton.jit
def filtered_sample(
    row_ptr, vocab_size, scale, key_a, key_b, top, top_k, top_p, min_p, BLOCK: tl.constexpr
):  # fmt: skip
    """The coupled sample of one row with at least one filter on."""
    lower = tl.where(min_p > 0, top + tl.log(tl.maximum(min_p, 1e-37)), MINUS_INF)
    k = tl.where((top_k > 0) & (top_k < vocab_size), top_k, vocab_size)
    if (k < vocab_size) & (top_p < 1.0):
        lower = tl.maximum(lower, kth_largest(row_ptr, vocab_size, scale, k, BLOCK))
        k = vocab_size
    count, total, token, value = scan_row(row_ptr, vocab_size, scale, key_a, key_b, lower, MINUS_INF, top, BLOCK)
    p = tl.where(top_p < 1.0, top_p * total, float("inf"))
    searching = count > 1
    while searching:
        count, mass, next_token, next_value = scan_row(
            row_ptr, vocab_size, scale, key_a, key_b, lower, value, top, BLOCK
        )
        searching = ((count >= k) | (mass >= p)) & (count > 0)
        token = tl.where(searching, next_token, token)
        value = tl.where(searching, next_value, value)
    return token


@triton.jit
def walk_kernel(
    logits_ptr, tokens_ptr, parents_ptr, seed_ptr, position_ptr,
    temperature_ptr, top_k_ptr, top_p_ptr, min_p_ptr, score_ptr, token_ptr, top_ptr,
    nodes, vocab_size, slices, path_ptr, length_ptr, bonus_ptr,
    BLOCK: tl.constexpr, NODES: tl.constexpr, SLICES: tl.constexpr,
):  # fmt: skip
    """Grid (B). NODES and SLICES are the powers of two that hold `nodes` and `slices`."""
    batch = tl.program_id(0).to(tl.int64)
    temperature = tl.load(temperature_ptr + batch)
    scale = inverse_temperature(temperature)
    top_k = tl.load(top_k_ptr + batch)
    top_p = tl.load(top_p_ptr + batch)
    min_p = tl.load(min_p_ptr + batch)
    filtered = ((top_k > 0) & (top_k < vocab_size)) | (top_p < 1.0) | (min_p > 0.0)
    filtered = filtered & (temperature > 0)
    seed = tl.load(seed_ptr + batch)
    position = tl.load(position_ptr + batch) + 1

    index = tl.arange(0, NODES)
    tokens = tl.load(tokens_ptr + batch * nodes + index, mask=index < nodes, other=-1).to(tl.int32)
    parents = tl.load(parents_ptr + batch * nodes + index, mask=index < nodes, other=-1).to(tl.int32)
    tl.store(path_ptr + batch * (nodes - 1) + index, tl.full((NODES,), -1, tl.int64), mask=index < nodes - 1)
    tl.debug_barrier()  # the -1s are written before any lane writes a node over them

    at_slice = tl.arange(0, SLICES)
    node = tl.zeros((), tl.int32)
    length = tl.zeros((), tl.int32)
    bonus = tl.zeros((), tl.int32)
    walking = node == 0
    while walking:
        row = batch * nodes + node
        used = at_slice < slices
        scores = tl.load(score_ptr + row * slices + at_slice, mask=used, other=MINUS_INF)
        winners = tl.load(token_ptr + row * slices + at_slice, mask=used, other=NO_TOKEN)
        _, bonus = best_of(scores, winners)
        bonus = tl.minimum(bonus, vocab_size - 1)
        if filtered:
            top = tl.max(tl.load(top_ptr + row * slices + at_slice, mask=used, other=MINUS_INF), 0)
            key_a, key_b = position_keys(seed, tl.zeros((), tl.int32), position + length)
            bonus = filtered_sample(
                logits_ptr + row * vocab_size, vocab_size, scale, key_a, key_b, top,
                top_k, top_p, min_p, BLOCK,
            )  # fmt: skip
        child = tl.min(tl.where((parents == node) & (tokens == bonus) & (index > node), index, NODES), 0)
        walking = child < nodes
        if walking:
            tl.store(path_ptr + batch * (nodes - 1) + length, child.to(tl.int64))
            node = child
            length += 1
    tl.store(length_ptr + batch, length.to(tl.int64))
    tl.store(bonus_ptr + batch, bonus.to(tl.int64))


def device_arguments(device, batch, seed, position, temperature, top_k, top_p, min_p) -> tuple:
    """The per-sequence arguments as vectors [B] on the device; those there already are not copied."""
    device = torch.device(device)

    def vector(value, dtype, name):
        whole = dtype == torch.int64
        if isinstance(value, torch.Tensor):
            checks.vector(value, batch, name, whole)
        else:  # queued from pinned memory: the host does not wait for the device
            value = checks.per_sequence(value, batch, name, whole)
            value = [as_int64(int(one)) for one in value] if whole else value
            value = torch.tensor(value, dtype=dtype, pin_memory=device.type == "cuda")
        return value.to(device=device, dtype=dtype, non_blocking=True).expand(batch).contiguous()

    return (
        vector(seed, torch.int64, "seed"),
        vector(position, torch.int64, "position"),
        vector(temperature, torch.float32, "temperature"),
        vector(top_k, torch.int32, "top_k"),
        vector(top_p, torch.float32, "top_p"),
        vector(min_p, torch.float32, "min_p"),
    )


def launch(logits, tokens, parents, seed, position, temperature, top_k, top_p, min_p, slice_=SLICE, block=1024):
    """The two kernels on tensors already checked; per-sequence arguments as from `device_arguments`."""
    batch, nodes, vocab_size = logits.shape
    logits, tokens, parents = logits.contiguous(), tokens.contiguous(), parents.contiguous()
    device, slices = logits.device, triton.cdiv(vocab_size, slice_)
    scores = torch.empty(batch * nodes, slices, dtype=torch.float32, device=device)
    winners = torch.empty(batch * nodes, slices, dtype=torch.int32, device=device)
    tops = torch.empty_like(scores)
    path = torch.empty(batch, nodes - 1, dtype=torch.int64, device=device)
    length = torch.empty(batch, dtype=torch.int64, device=device)
    bonus = torch.empty_like(length)
    sample_kernel[(batch * nodes, slices)](
        logits, tokens, parents, seed, position, temperature, nodes, vocab_size, slices,
        scores, winners, tops, SLICE=slice_, BLOCK=min(block, slice_), **SAMPLE_OPTIONS,
    )  # fmt: skip
    walk_kernel[(batch,)](
        logits, tokens, parents, seed, position, temperature, top_k, top_p, min_p,
        scores, winners, tops, nodes, vocab_size, slices, path, length, bonus,
        BLOCK=2 * block, NODES=triton.next_power_of_2(nodes), SLICES=triton.next_power_of_2(slices),
        **WALK_OPTIONS,
    )  # fmt: skip
    return path, length, bonus
