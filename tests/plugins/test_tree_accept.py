"""Coupled acceptance: the reference against a slow oracle, the kernel against the reference."""

import math

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from saguaro.plugins import gumbel, perturbed_scores, tree_accept
from saguaro.plugins.tree_accept import filters, kernel

from .trees import Trees, trees

SLOW = settings(max_examples=85, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))


def kept_by_sorting(scaled: torch.Tensor, k: int, p: float, m: float) -> torch.Tensor:
    """The filters' definition, one row [V] at a time in float64: which tokens stay."""
    scaled = scaled.double()
    keep = torch.ones_like(scaled, dtype=torch.bool)
    if m > 0:
        keep &= scaled.softmax(-1) >= m * scaled.softmax(-1).max() * (1 - 1e-9)
    if 0 < k < len(scaled):
        keep &= scaled >= scaled.sort(descending=True).values[k - 1]
    if p < 1:
        mass = scaled.masked_fill(~keep, -math.inf).softmax(-1)
        above = torch.stack([mass[scaled > s].sum() for s in scaled])
        keep &= above < p
    return keep


def oracle(logits, tokens, parents, seed, position, setting) -> tuple[list[int], int]:
    """One sequence, one node and one token at a time."""
    temperature, k, p, m = setting
    node, path = 0, []
    while True:
        row = logits[node].float()
        if temperature > 0:
            row = row / temperature
            noise = gumbel(seed, [position + len(path) + 1], len(row))[0]
            row = torch.where(kept_by_sorting(row, k, p, m), row + noise, -math.inf)
        bonus = int(row.argmax())
        children = [n for n in range(len(tokens)) if parents[n] == node and tokens[n] == bonus]
        if not children:
            return path, bonus
        node = children[0]
        path.append(node)


@st.composite
def problems(draw, max_batch=5, max_nodes=5):
    """Trees whose tokens often are what the target picks, so that walks get deep."""
    tree: Trees = draw(trees(max_batch, max_nodes, min_batch=3))
    batch, nodes, size = tree.batch, tree.nodes, draw(st.integers(2, 40))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    logits = torch.randn(batch, nodes, size, generator=generator) * draw(st.sampled_from([0.5, 2.0, 6.0]))
    if draw(st.booleans()):
        logits = (logits * 2).round() / 2  # ties
    setting = [
        (
            draw(st.sampled_from([0.0, 0.3, 0.7, 1.0, 1.7])),
            draw(st.sampled_from([0, -1, 1, 2, 5, size, size + 3])),
            draw(st.sampled_from([1.0, 0.95, 0.5, 0.05])),
            draw(st.sampled_from([0.0, 0.0, 0.05, 0.4])),
        )
        for _ in range(batch)
    ]
    seed = [draw(st.integers(-(2**63), 2**64 - 1)) for _ in range(batch)]
    position = [draw(st.sampled_from([0, 1, 77, 100_000])) for _ in range(batch)]
    tokens = torch.randint(0, size, (batch, nodes), generator=generator)
    for b in range(batch):
        for n in range(1, nodes):
            if n >= tree.sizes[b]:
                tokens[b, n] = -1
            elif torch.rand((), generator=generator) < 0.7:
                parent = int(tree.parents[b, n])
                at = position[b] + len(tree.ancestors(b, parent))
                scores = perturbed_scores(logits[b, parent], seed[b], at, *setting[b])
                tokens[b, n] = scores.argmax()
    return logits, tokens, tree.parents, seed, position, setting


def columns(setting) -> list[list[float]]:
    return [list(column) for column in zip(*setting, strict=True)]


seen = {"reference": 0, "kernel": 0}


@SLOW
@given(problems())
def test_the_reference_walks_as_the_oracle(problem):
    logits, tokens, parents, seed, position, setting = problem
    path, length, bonus = tree_accept(logits, tokens, parents, seed, position, *columns(setting))
    batch, nodes, _ = logits.shape
    seen["reference"] += batch
    assert path.shape == (batch, nodes - 1)
    for b in range(batch):
        expected, last = oracle(logits[b], tokens[b].tolist(), parents[b].tolist(), seed[b], position[b], setting[b])
        assert path[b].tolist() == expected + [-1] * (nodes - 1 - len(expected))
        assert length[b] == len(expected)
        assert bonus[b] == last


@pytest.mark.interpreted
@SLOW
@given(problems(), st.sampled_from([32, 64]))
def test_the_kernel_walks_as_the_reference(problem, slice_):
    logits, tokens, parents, seed, position, setting = problem
    expected = tree_accept(logits, tokens, parents, seed, position, *columns(setting))
    arguments = kernel.device_arguments("cpu", logits.shape[0], seed, position, *columns(setting))
    got = kernel.launch(logits, tokens, parents, *arguments, slice_=slice_, block=slice_)
    seen["kernel"] += logits.shape[0]
    for a, b in zip(expected, got, strict=True):
        assert a.dtype == b.dtype
        assert torch.equal(a, b)


@pytest.mark.interpreted
def test_enough_trees_were_tried():
    assert min(seen.values()) >= 300, seen


@pytest.mark.interpreted
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_kernel_at_its_real_block_sizes(dtype):
    torch.manual_seed(5)
    logits = (torch.randn(2, 3, 9001) * 3).to(dtype)
    parents = torch.tensor([[-1, 0, 1]] * 2, dtype=torch.int32)
    seed, position, setting = [3, 4], [10, 20], [(0.8, 40, 0.9, 0.0), (0.9, 0, 0.8, 0.01)]
    tokens = torch.full((2, 3), 7, dtype=torch.int32)
    for b in range(2):
        tokens[b, 1] = perturbed_scores(logits[b, 0], seed[b], position[b] + 1, *setting[b]).argmax()
    expected = tree_accept(logits, tokens, parents, seed, position, *columns(setting))
    assert expected[1].tolist() == [1, 1]
    arguments = kernel.device_arguments("cpu", 2, seed, position, *columns(setting))
    for a, b in zip(expected, kernel.launch(logits, tokens, parents, *arguments), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("vocabulary", [40, 3000])
def test_filters_keep_what_their_definitions_keep(vocabulary):
    """3000 is past the 256 ranks that top-p looks at first; flat rows make it look further."""
    torch.manual_seed(6)
    for trial in range(40):
        scaled = torch.randn(vocabulary) * [0.1, 1.0, 4.0][trial % 3]
        if trial % 4 == 0:
            scaled = (scaled * 3).round() / 3
        k = [0, 1, 7, vocabulary, 300][trial % 5]
        p = [1.0, 0.9, 0.3, 0.99][trial // 5 % 4]
        m = [0.0, 0.1][trial // 20]
        kept = filters.keep(scaled, filters.lower_bound(scaled, k, p, m)) > -math.inf
        assert torch.equal(kept, kept_by_sorting(scaled, k, p, m)), (trial, k, p, m)
        tensors = [torch.tensor([float(x)]) for x in (k, p, m)]
        bound = filters.lower_bound(scaled, tensors[0].long(), *tensors[1:])
        assert torch.equal(filters.keep(scaled, bound) > -math.inf, kept)


def test_a_chain_verified_at_once_is_the_chain_sampled_step_by_step():
    """Autoregressive and speculative decoding agree, whatever was proposed."""
    torch.manual_seed(7)
    vocabulary, length = 500, 6
    table = torch.randn(vocabulary, vocabulary) * 2  # a bigram model
    for seed in range(20):
        sampling = ([0.9], [50], [0.95], [0.0])
        tokens = [3]
        for step in range(length):  # one node at a time
            root = torch.tensor([[tokens[-1]]])
            _, _, bonus = tree_accept(table[root], root, torch.tensor([[-1]]), [seed], [100 + step], *sampling)
            tokens.append(int(bonus))
        chain = torch.tensor([tokens[:-1]])
        parents = torch.arange(-1, length - 1)[None]
        path, accepted, bonus = tree_accept(table[chain], chain, parents, [seed], [100], *sampling)
        assert path[0].tolist() == list(range(1, length))
        assert (int(accepted), int(bonus)) == (length - 1, tokens[-1])
        chain[0, 3] = (chain[0, 3] + 1) % vocabulary  # a wrong proposal ends the walk before it
        path, accepted, bonus = tree_accept(table[chain], chain, parents, [seed], [100], *sampling)
        assert (int(accepted), int(bonus)) == (2, tokens[3])


def test_samples_follow_the_filtered_softmax():
    torch.manual_seed(8)
    logits = torch.randn(50) * 1.5
    draws = 100_000
    setting = (0.8, 20, 0.9, 0.02)
    kept = kept_by_sorting(logits / 0.8, *setting[1:])
    probabilities = (logits / 0.8).masked_fill(~kept, -math.inf).double().softmax(-1)[kept]
    winners = perturbed_scores(logits.expand(draws, 50), 5, torch.arange(draws), *setting).argmax(-1)
    counts = torch.bincount(winners, minlength=50)
    assert counts[~kept].sum() == 0
    assert stats.chisquare(counts[kept], probabilities * draws).pvalue > 0.001


def test_scores_for_settings_that_differ_equal_those_computed_alone():
    torch.manual_seed(9)
    logits = torch.randn(4, 3, 700)
    positions = torch.arange(12).reshape(4, 3)
    rows = [(0.0, 0, 1.0, 0.0), (1.0, 5, 1.0, 0.0), (0.7, 0, 0.9, 0.1), (0.5, 9, 0.6, 0.0)]
    together = perturbed_scores(logits, [1, 2, 3, 4], positions, *columns(rows))
    for b in range(4):
        alone = perturbed_scores(logits[b], b + 1, positions[b], *rows[b])
        torch.testing.assert_close(together[b], alone)


def test_greedy_takes_the_lowest_of_equal_logits_and_the_first_of_equal_children():
    logits = torch.zeros(1, 3, 5)
    logits[0, :, 2:4] = 1.0
    tokens = torch.tensor([[0, 2, 2]])
    for parents, expected in (([[-1, 0, 0]], [1, -1]), ([[-1, 0, 1]], [1, 2])):
        path, length, bonus = tree_accept(logits, tokens, torch.tensor(parents), 0, 0, 0.0)
        assert path[0].tolist() == expected
        assert bonus.item() == 2
        assert length.item() == sum(n >= 0 for n in expected)


@pytest.mark.interpreted
def test_the_kernels_arguments_are_checked_as_the_references():
    def arguments(**changes):
        values = {"seed": 1, "position": [0, 5], "temperature": 0.5, "top_k": 0, "top_p": 1.0, "min_p": 0.0} | changes
        return kernel.device_arguments("cpu", 2, *values.values())

    assert arguments(seed=2**64 - 1)[0].tolist() == [-1, -1]
    assert [column.shape for column in arguments(top_k=torch.tensor(3))] == [(2,)] * 6
    with pytest.raises(TypeError, match="seed must be integers"):
        arguments(seed=1.5)
    with pytest.raises(TypeError, match=r"position must be integers, got torch\.float32"):
        arguments(position=torch.zeros(2))
    with pytest.raises(ValueError, match=r"temperature must hold one value for each of the 2 sequences, got \[3\]"):
        arguments(temperature=torch.zeros(3))
    with pytest.raises(ValueError, match="top_p must hold one value for each of the 2 sequences, got 1"):
        arguments(top_p=[0.9])


def test_wrong_input():
    logits, tokens = torch.randn(2, 3, 10), torch.zeros(2, 3, dtype=torch.int64)
    parents = torch.tensor([[-1, 0, 1], [-1, 0, 0]])
    ok = {"seed": [1, 2], "position": [0, 0], "temperature": [0.0, 0.0]}
    with pytest.raises(TypeError, match="logits must be float32, float16 or bfloat16"):
        tree_accept(logits.long(), tokens, parents, **ok)
    with pytest.raises(TypeError, match="tokens must be int64 or int32"):
        tree_accept(logits, tokens.float(), parents, **ok)
    with pytest.raises(TypeError, match="parents must be a tensor"):
        tree_accept(logits, tokens, parents.tolist(), **ok)
    with pytest.raises(ValueError, match=r"logits must be \[B, N, V\]"):
        tree_accept(logits[0], tokens, parents, **ok)
    with pytest.raises(ValueError, match=r"parents must be \[B, N\] = \[2, 3\]"):
        tree_accept(logits, tokens, parents[:, :2], **ok)
    with pytest.raises(ValueError, match=r"parents\[0, 1\] must be a node before 1, got 2"):
        tree_accept(logits, tokens, torch.tensor([[-1, 2, 1], [-1, 0, 0]]), **ok)
    with pytest.raises(ValueError, match=r"parents\[1, 0\] must be -1"):
        tree_accept(logits, tokens, torch.tensor([[-1, 0, 1], [0, 0, 0]]), **ok)
    with pytest.raises(ValueError, match="seed must hold one value for each of the 2 sequences, got 3"):
        tree_accept(logits, tokens, parents, **{**ok, "seed": [1, 2, 3]})
    for name, value, sentence in [
        ("temperature", -0.5, "temperature must be 0"),
        ("temperature", math.nan, "temperature must be 0"),
        ("top_k", -2, "top_k must be a positive integer"),
        ("top_k", 1.5, "top_k must be a positive integer"),
        ("top_p", 0.0, "top_p must lie in"),
        ("min_p", 1.5, "min_p must lie in"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            tree_accept(logits, tokens, parents, **{**ok, name: value})
    for name, value, sentence in [
        ("seed", 1.5, "seed must be integers, one or one for each sequence, got 1.5"),
        ("seed", torch.tensor([1.0, 2.0]), r"seed must be integers, got torch\.float32"),
        ("position", [0, 0.5], "position must be integers"),
        ("position", None, "position must be integers"),
        ("temperature", "hot", "temperature must be numbers"),
        ("top_p", [0.9, None], "top_p must be numbers"),
    ]:
        with pytest.raises(TypeError, match=sentence):
            tree_accept(logits, tokens, parents, **{**ok, name: value})
    for name in ("seed", "position"):
        with pytest.raises(ValueError, match=rf"{name} must hold one value for each of the 2 sequences, got \[2, 1\]"):
            tree_accept(logits, tokens, parents, **{**ok, name: torch.zeros(2, 1, dtype=torch.int64)})
    with pytest.raises(ValueError, match="tokens is on meta and logits on cpu: use one device"):
        tree_accept(logits, tokens.to("meta"), parents, **ok)
    with pytest.raises(ValueError, match="logits is on meta, where no plugin runs"):
        tree_accept(logits.to("meta"), tokens.to("meta"), parents.to("meta"), **ok)
    with pytest.raises(ValueError, match=r"positions must be \[2, 3\] like logits"):
        perturbed_scores(logits, 1, [0, 1], 1.0)
    with pytest.raises(TypeError, match="logits must be a float32"):
        perturbed_scores(logits.int(), 1, torch.zeros(2, 3), 1.0)
