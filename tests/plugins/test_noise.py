"""The coupled noise: fixed values, the distribution it samples, independence, and the kernel's equality."""

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from scipy import stats

from saguaro.plugins import gumbel, noise, noise_bits
from saguaro.plugins.noise import kernel, reference

from .chi_square import chi_square


def specification(seed: int, position: int, token: int, stream: int) -> int:
    """The generator once more, written for one word in plain Python integers."""

    def mix(x, s1, m1, s2, m2, s3):
        x = ((x ^ (x >> s1)) * m1) % 2**32
        x = ((x ^ (x >> s2)) * m2) % 2**32
        return x ^ (x >> s3)

    def lowbias(x):
        return mix(x % 2**32, 16, 0x7FEB352D, 15, 0x846CA68B, 16)

    def murmur(x):
        return mix(x % 2**32, 16, 0x85EBCA6B, 13, 0xC2B2AE35, 16)

    low, high, stream, position = seed % 2**32, (seed >> 32) % 2**32, stream % 2**32, position % 2**32
    a, b, step = 0x9E3779B9, 0xB7E15162, 0x6D2B79F5
    for word in (low, high, stream):
        a = lowbias((a + step) % 2**32 ^ word)
    for word in (high, stream, low):
        b = murmur((b + step) % 2**32 ^ word)
    return murmur(lowbias(lowbias(a ^ position) ^ token) ^ murmur(b ^ position))


# (seed, position, token, stream) -> bits. A change here changes every seeded output ever produced.
VECTORS = [
    ((0, 0, 0, 0), 0x4C751EE8),
    ((1, 0, 0, 0), 0xBDD1EAE5),
    ((0, 1, 0, 0), 0x8BD022B9),
    ((0, 0, 1, 0), 0x2509DF1C),
    ((0, 0, 0, 1), 0x10B9A14F),
    ((2**64 - 1, 2**31 - 1, 151_935, 3), 0x2D7FD5A9),
    ((-1, 2**31 - 1, 151_935, 3), 0x2D7FD5A9),
    ((0x0123456789ABCDEF, 4095, 128_255, 2), 0xA714EE9A),
]


@pytest.mark.parametrize(("key", "bits"), VECTORS)
def test_reference_vectors(key, bits):
    seed, position, token, stream = key
    got = noise_bits(seed, [position], torch.tensor([token]), stream).item() % 2**32
    assert got == bits == specification(*key)


def test_vocabulary_ids_tensor_seeds_and_scalars_agree():
    seeds, positions = [5, -7, 2**63 + 11], torch.tensor([[0, 9], [3, 3], [1000, 7]])
    block = noise_bits(seeds, positions, 300, stream=4)
    assert block.shape == (3, 2, 300)
    assert block.dtype == torch.int32
    wrapped = torch.tensor([5, -7, 2**63 + 11 - 2**64])
    assert torch.equal(block, noise_bits(wrapped, positions, 300, stream=4))
    for b in range(3):
        for i in range(2):
            one = noise_bits(seeds[b], int(positions[b, i]), 300, stream=4)
            assert torch.equal(block[b, i], one)
    ids = torch.randint(300, (3, 2, 17))
    assert torch.equal(noise_bits(seeds, positions, ids, 4), block.gather(-1, ids))


def test_gumbel_covers_the_tail_of_32_bits():
    words = torch.tensor([0, 1, 2**31, 2**32 - 1]).to(torch.int32)
    v = (words.double() % 2**32 + 0.5) / 2**32
    exact = -torch.log(-torch.log1p(-v))
    got = reference.gumbel_from_bits(words)
    torch.testing.assert_close(got[:3].double(), exact[:3], rtol=0, atol=2e-6)
    assert got[3] == pytest.approx(-np.log(24 * np.log(2)), abs=1e-5)  # clamped at 1 - 2^-24
    assert got[0] == pytest.approx(33 * np.log(2), abs=1e-5)


def draw(logits: torch.Tensor, ids, draws: int, rows: int, seed: int) -> np.ndarray:
    """How often each entry of `logits` wins, over positions 0, 1, 2, ..."""
    counts = torch.zeros(logits.numel(), dtype=torch.int64)
    for start in range(0, draws, rows):
        scores = gumbel(seed, torch.arange(start, start + rows), ids)
        winners = scores.add_(logits).argmax(-1)
        counts += torch.bincount(winners, minlength=logits.numel())
    return counts.numpy()


def test_a_million_draws_follow_softmax_at_4096_tokens():
    torch.manual_seed(1)
    logits = torch.randn(4096) * 2.5
    counts = draw(logits, 4096, 1_000_000, 40, seed=11)
    assert counts.sum() == 1_000_000
    assert chi_square(counts, logits.double().softmax(-1).numpy()) > 0.001


def test_draws_over_all_151936_ids_favour_no_part_of_the_vocabulary():
    counts = draw(torch.zeros(151_936), 151_936, 4_000, 4, seed=99)
    blocks = np.add.reduceat(counts, np.arange(0, 151_936, 1024))
    sizes = np.diff(np.append(np.arange(0, 151_936, 1024), 151_936))
    assert chi_square(blocks, sizes / sizes.sum()) > 0.001
    by_low_bits = np.bincount(np.arange(151_936) % 128, counts)
    assert chi_square(by_low_bits, np.full(128, 1 / 128)) > 0.001


@pytest.mark.parametrize(
    ("seed_step", "position_step", "stream_step"),
    [(1, 0, 0), (0, 1, 0), (1, -1, 0), (1, 1, 0), (0, 0, 1), (2**32, 0, 0), (0, 1, 1), (0, 64, 0), (2, 2, 2)],
)
def test_neighbouring_seeds_positions_and_streams_are_independent(seed_step, position_step, stream_step):
    draws, vocabulary = 100_000, 12
    positions = torch.arange(1000, 1000 + draws)
    first = gumbel(17, positions, vocabulary)
    second = gumbel(17 + seed_step, positions + position_step, vocabulary, stream_step)
    table = np.zeros((vocabulary, vocabulary))
    np.add.at(table, (first.argmax(-1).numpy(), second.argmax(-1).numpy()), 1)
    assert stats.chi2_contingency(table).pvalue > 0.0005
    # every pair of tokens, not only the winners: 144 correlations, each about N(0, 1/draws)
    correlation = np.corrcoef(first.numpy().T, second.numpy().T)[:vocabulary, vocabulary:]
    assert np.abs(correlation).max() < 4.5 / np.sqrt(draws)


@pytest.mark.parametrize("field", ["seed", "position", "token"])
def test_every_input_bit_flips_every_output_bit_half_of_the_time(field):
    torch.manual_seed(3)
    samples = 4000
    seeds = torch.randint(-(2**62), 2**62, (samples,))
    positions = torch.randint(0, 2**20, (samples,))
    tokens = torch.randint(0, 2**17, (samples, 1))
    base = noise_bits(seeds, positions, tokens)
    for bit in range({"seed": 62, "position": 20, "token": 17}[field]):
        flip = 1 << bit
        other = noise_bits(
            seeds ^ (flip if field == "seed" else 0),
            positions ^ (flip if field == "position" else 0),
            tokens ^ (flip if field == "token" else 0),
        )
        changed = (base ^ other).numpy().view(np.uint32)
        share = np.array([((changed >> k) & 1).mean() for k in range(32)])
        assert np.abs(share - 0.5).max() < 5 * 0.5 / np.sqrt(samples), f"{field} bit {bit}"


@pytest.mark.interpreted
def test_the_kernel_gives_the_same_bits_for_a_million_triples():
    torch.manual_seed(4)
    seeds = torch.randint(-(2**63), 2**63 - 1, (256,))
    positions = torch.randint(0, 2**31, (256,))
    ids = torch.randint(0, 151_936, (256, 4096))
    got = kernel.launch(seeds, positions, ids, 4096, stream=0, gumbel=False, block=4096)
    assert got.numel() > 1_000_000
    assert torch.equal(got, noise_bits(seeds, positions, ids))


@pytest.mark.interpreted
@pytest.mark.parametrize("stream", [1, 7, 2**31 + 5])
def test_the_kernel_over_whole_vocabularies_and_other_streams(stream):
    seeds, positions = torch.tensor([0, -1, 5]), torch.tensor([0, 2**31 - 1, 77])
    got = kernel.launch(seeds, positions, None, 5000, stream, gumbel=False)
    assert torch.equal(got, noise_bits(seeds, positions, 5000, stream))
    floats = kernel.launch(seeds, positions, None, 5000, stream, gumbel=True)
    torch.testing.assert_close(floats, gumbel(seeds, positions, 5000, stream), rtol=1e-5, atol=2e-6)
    shared = torch.tensor([4, 4999, 17])
    got = kernel.launch(seeds, positions, shared, 3, stream, gumbel=False)
    assert torch.equal(got, noise_bits(seeds, positions, shared, stream))


@pytest.mark.interpreted
@pytest.mark.parametrize("seed", [9, 2**63 + 5, torch.tensor([4, -4])])
@pytest.mark.parametrize("ids", [70, torch.tensor([3, 69, 0]), torch.arange(24).reshape(2, 3, 4)])
def test_the_device_path_arranges_seeds_positions_and_ids_alike(seed, ids):
    positions = torch.tensor([[5, 6, 7], [8, 9, 2**31 - 1]])
    columns = ids if isinstance(ids, int) else ids.shape[-1]
    got = noise._launch(seed, positions, ids, columns, 2, gumbel=False)
    assert torch.equal(got, noise_bits(seed, positions, ids, 2))


@triton.jit
def transform(bits_ptr, out_ptr, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    tl.store(out_ptr + at, kernel.gumbel_from_bits(tl.load(bits_ptr + at).to(tl.uint32, bitcast=True)))


@pytest.mark.interpreted
def test_the_kernel_keeps_the_tail():
    """Few draws reach h < 2^12, so the series for small v is compared on words chosen by hand."""
    words = torch.cat([torch.arange(512), 2 ** torch.arange(32), 2**32 - 1 - torch.arange(480)])
    words, out = words.to(torch.int32), torch.empty(1024)
    transform[(1,)](words, out, BLOCK=1024)
    torch.testing.assert_close(out, reference.gumbel_from_bits(words), rtol=1e-5, atol=2e-6)


def test_wrong_input():
    with pytest.raises(TypeError, match="positions must be integers"):
        noise_bits(1, [0.5], 10)
    with pytest.raises(TypeError, match="seed must be integers"):
        noise_bits([1.5], [0], 10)
    with pytest.raises(TypeError, match="tokens must be integers"):
        noise_bits(1, [0], torch.tensor([1.0]))
    with pytest.raises(ValueError, match="vocabulary size must be at least 1"):
        noise_bits(1, [0], 0)
    with pytest.raises(ValueError, match="along the first dimension of positions"):
        noise_bits([1, 2], [0, 1, 2], 10)
    with pytest.raises(ValueError, match="on a CPU or a CUDA GPU, got the device meta"):
        noise_bits(1, [0], 10, device="meta")
    with pytest.raises(ValueError, match="tokens must be a vocabulary size"):
        noise_bits(1, [0, 1, 2], torch.zeros(2, 5, dtype=torch.int64))
