"""The kernels at full size on a CUDA device, against the references computed on the CPU."""

import pytest
import torch
from scipy import stats

from saguaro.plugins import (
    gumbel,
    kv_compact,
    noise_bits,
    pack_ancestors,
    perturbed_scores,
    tree_accept,
    tree_attention,
)

BARS = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}
BROAD = (1.0, 0, 1.0, 0.0)


def random_parents(batch: int, nodes: int) -> torch.Tensor:
    rows = [[-1] + [int(torch.randint(0, n, ())) for n in range(1, nodes)] for _ in range(batch)]
    return torch.tensor(rows)


def test_noise_bits_are_the_cpus_and_floats_differ_by_rounding():
    torch.manual_seed(0)
    seeds, positions = torch.randint(-(2**63), 2**63 - 1, (64,)), torch.randint(0, 2**31, (64,))
    for stream in (0, 3):
        bits = noise_bits(seeds, positions, 151_936, stream)
        assert torch.equal(noise_bits(seeds.cuda(), positions.cuda(), 151_936, stream).cpu(), bits)
        floats = gumbel(seeds, positions, 151_936, stream)
        got = gumbel(seeds.cuda(), positions.cuda(), 151_936, stream).cpu()
        torch.testing.assert_close(got, floats, rtol=1e-5, atol=4e-6)


def test_a_million_draws_over_every_one_of_151936_tokens():
    torch.manual_seed(1)
    logits = (torch.randn(151_936) * 2).cuda()
    counts = torch.zeros(151_936, dtype=torch.int64, device="cuda")
    for start in range(0, 1_000_000, 2000):
        positions = torch.arange(start, start + 2000, device="cuda")
        winners = gumbel(21, positions, 151_936).add_(logits).argmax(-1)
        counts += torch.bincount(winners, minlength=151_936)
    expected = logits.double().softmax(-1).cpu() * 1_000_000
    order = expected.argsort()
    groups = (expected[order].cumsum(0) // 20).long()
    _, groups = groups.unique(return_inverse=True)
    zeros = torch.zeros(int(groups.max()) + 1, dtype=torch.float64)
    merged = zeros.scatter_add(0, groups, expected[order])
    observed = zeros.scatter_add(0, groups, counts.cpu()[order].double())
    assert stats.chisquare(observed, merged * observed.sum() / merged.sum()).pvalue > 0.001


@pytest.mark.parametrize("dtype", list(BARS))
@pytest.mark.parametrize("vocabulary", [32_000, 128_256, 151_936, 50_257])
@pytest.mark.parametrize(
    "setting", [(0.0, 0, 1.0, 0.0), BROAD, (0.7, 20, 0.8, 0.0), (0.9, 0, 0.95, 0.05), (0.6, 40, 1.0, 0.0)]
)
def test_tree_accept(dtype, vocabulary, setting):
    torch.manual_seed(2)
    batch, nodes = 3, 16
    logits = (torch.randn(batch, nodes, vocabulary) * 3).to(dtype)
    parents, seed, position = random_parents(batch, nodes), [1, 2, 3], [10, 0, 5000]
    depth = torch.zeros(batch, nodes, dtype=torch.int64)
    for b in range(batch):
        for n in range(1, nodes):
            depth[b, n] = depth[b, parents[b, n]] + 1
    scores = perturbed_scores(logits, seed, torch.tensor(position)[:, None] + depth + 1, *setting)
    best = scores.topk(2, -1)
    tokens = best.indices[..., 0].gather(1, parents.clamp(min=0))
    columns = [[x] * batch for x in setting]
    expected = tree_accept(logits, tokens, parents, seed, position, *columns)
    got = tree_accept(logits.cuda(), tokens.cuda(), parents.cuda(), seed, position, *columns)
    # Float noise differs by rounding: only where two scores are nearly equal may another token win.
    clear = (best.values[..., 0] - best.values[..., 1]).amin(-1) > 1e-4
    for a, b in zip(expected, got, strict=True):
        assert torch.equal(a[clear], b.cpu()[clear])
    assert clear.any()


def test_tree_accept_replays_in_a_graph_with_settings_on_the_device():
    torch.manual_seed(3)
    logits = torch.randn(2, 6, 32_000, device="cuda") * 3
    tokens = torch.randint(0, 32_000, (2, 6), device="cuda")
    parents = torch.tensor([[-1, 0, 1, 2, 3, 4], [-1, 0, 0, 1, 1, -1]], device="cuda")
    settings = [torch.tensor(x, device="cuda") for x in ([1, 2], [7, 9], [0.0, 0.8], [0, 50], [1.0, 0.9], [0.0, 0.0])]
    expected = tree_accept(logits.cpu(), tokens.cpu(), parents.cpu(), *[s.cpu() for s in settings])
    tree_accept(logits, tokens, parents, *settings)  # compiles
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = tree_accept(logits, tokens, parents, *settings)
    graph.replay()
    for a, b in zip(expected, got, strict=True):
        assert torch.equal(a, b.cpu())


@pytest.mark.parametrize("dtype", list(BARS))
@pytest.mark.parametrize("size", [64, 80, 96, 128, 256])
@pytest.mark.parametrize(
    ("batch", "kv_heads", "group", "nodes", "queries", "rows"),
    [(1, 8, 4, 6, 6, 4096), (2, 8, 8, 64, 24, 2048), (3, 2, 1, 1, 1, 700), (1, 2, 5, 512, 512, 1024)],
)
def test_tree_attention(dtype, size, batch, kv_heads, group, nodes, queries, rows):
    torch.manual_seed(4)
    q = torch.randn(batch, kv_heads * group, queries, size).to(dtype)
    k = torch.randn(batch, kv_heads, rows, size).to(dtype)
    v = torch.randn(batch, kv_heads, rows, size).to(dtype)
    prefix = torch.randint(0, rows - nodes + 1, (batch,))
    prefix[0] = rows - nodes  # a full cache
    ancestors = pack_ancestors(random_parents(batch, nodes))[:, nodes - queries :]
    expected = tree_attention(q, k, v, ancestors, prefix)
    got = tree_attention(q.cuda(), k.cuda(), v.cuda(), ancestors.cuda(), prefix.cuda()).cpu()
    error = (got.float() - expected.float()).abs().max() / expected.float().abs().max()
    assert error < BARS[dtype]


def test_ancestors_are_packed_on_the_device_too():
    parents = random_parents(4, 300)
    assert torch.equal(pack_ancestors(parents.cuda()).cpu(), pack_ancestors(parents))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int8])
@pytest.mark.parametrize("count", [1, 6, 100, 512])
def test_kv_compact(dtype, count):
    torch.manual_seed(5)
    layers, batch, heads, rows, size = 4, 3, 8, 1200, 128
    k = torch.randint(-100, 100, (layers, batch, heads, rows, size)).to(dtype)
    v = torch.randint(-100, 100, (layers, batch, heads, rows, size)).to(dtype)
    moves, prefix = torch.randint(-1, 600, (batch, count)), torch.tensor([0, 333, 600])
    on_device = k.cuda(), v.cuda()
    kv_compact(*on_device, moves.cuda(), prefix.cuda())
    kv_compact(k, v, moves, prefix)
    assert torch.equal(on_device[0].cpu(), k)
    assert torch.equal(on_device[1].cpu(), v)
