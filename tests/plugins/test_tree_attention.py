"""Tree attention: the reference against dense attention, the kernel against the reference."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from saguaro.plugins import pack_ancestors, tree_attention
from saguaro.plugins.tree_attention import HEAD_SIZES, kernel

from .trees import Trees, trees

SLOW = settings(max_examples=90, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
BARS = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


@st.composite
def problems(draw, max_batch=5, max_nodes=8):
    tree: Trees = draw(trees(max_batch, max_nodes, min_batch=3))
    dtype = draw(st.sampled_from(list(BARS)))
    size = draw(st.sampled_from(HEAD_SIZES))
    kv_heads, group = draw(st.sampled_from([(1, 1), (1, 2), (1, 5), (2, 1), (2, 3)]))
    prefix = torch.tensor([draw(st.sampled_from([0, 0, 1, 15, 16, 33, 60])) for _ in range(tree.batch)])
    spare = draw(st.sampled_from([0, 0, 5, 40]))  # 0: the longest sequence fills the cache
    rows = int(prefix.max()) + tree.nodes + spare
    queries = draw(st.sampled_from([tree.nodes, tree.nodes, 1, draw(st.integers(1, tree.nodes))]))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))

    def random(*shape):
        return torch.randn(*shape, generator=generator).to(dtype)

    q = random(tree.batch, kv_heads * group, queries, size)
    k, v = random(tree.batch, kv_heads, rows, size), random(tree.batch, kv_heads, rows, size)
    for b in range(tree.batch):  # rows that belong to nobody must not be looked at
        k[b, :, int(prefix[b]) + tree.nodes :] = float("nan")
        v[b, :, int(prefix[b]) + tree.nodes :] = float("nan")
    ancestors = pack_ancestors(tree.parents)[:, tree.nodes - queries :]
    return tree, q, k, v, ancestors, prefix


def dense(tree: Trees, q, k, v, prefix) -> torch.Tensor:
    """Attention in float64, with a mask written out from the parents' links."""
    batch, heads, queries, _ = q.shape
    rows = k.shape[2]
    mask = torch.zeros(batch, 1, queries, rows, dtype=torch.bool)
    for b in range(batch):
        for t in range(queries):
            mask[b, 0, t, : int(prefix[b])] = True
            for node in tree.ancestors(b, tree.nodes - queries + t):
                mask[b, 0, t, int(prefix[b]) + node] = True
    k, v = k.double().nan_to_num(), v.double().nan_to_num()
    return torch.nn.functional.scaled_dot_product_attention(
        q.double(), k, v, attn_mask=mask, enable_gqa=heads != k.shape[1]
    )


def error(got: torch.Tensor, expected: torch.Tensor) -> float:
    """Largest difference over the largest value."""
    assert got.shape == expected.shape
    assert not got.isnan().any()
    return ((got.double() - expected.double()).abs().max() / expected.abs().max()).item()


seen = {"reference": 0, "kernel": 0}
worst = dict.fromkeys(BARS, 0.0)


@SLOW
@given(problems())
def test_the_reference_is_dense_masked_attention(problem):
    tree, q, k, v, ancestors, prefix = problem
    seen["reference"] += tree.batch
    got = tree_attention(q, k, v, ancestors, prefix)
    assert got.dtype == q.dtype
    assert error(got, dense(tree, q, k, v, prefix)) < BARS[q.dtype]


@pytest.mark.interpreted
@SLOW
@given(problems(), st.sampled_from([1, 2, 4]), st.sampled_from([16, 32]))
def test_the_kernel_equals_the_reference(problem, splits, block_n):
    tree, q, k, v, ancestors, prefix = problem
    seen["kernel"] += tree.batch
    config = {"BLOCK_D": 1 << (q.shape[-1] - 1).bit_length(), "BLOCK_M": 16, "BLOCK_N": block_n}
    scale = q.shape[-1] ** -0.5
    got = kernel.launch(q, k, v, ancestors, prefix, scale, splits, config)
    found = error(got, tree_attention(q, k, v, ancestors, prefix))
    worst[q.dtype] = max(worst[q.dtype], found)
    assert found < BARS[q.dtype]


@pytest.mark.interpreted
def test_enough_trees_were_tried_and_every_type():
    assert min(seen.values()) >= 300, seen
    assert min(worst.values()) > 0, worst


@pytest.mark.interpreted
@pytest.mark.parametrize(("nodes", "queries"), [(32, 32), (33, 33), (100, 100), (512, 16)])
def test_masks_of_several_words_strides_and_a_scale(nodes, queries):
    torch.manual_seed(nodes)
    parents = torch.tensor([[-1] + [int(torch.randint(0, n, ())) for n in range(1, nodes)]])
    ancestors = pack_ancestors(parents)
    assert ancestors.shape == (1, nodes, -(-nodes // 32))
    ancestors = ancestors[:, nodes - queries :]
    q = torch.randn(1, queries, 2, 64).transpose(1, 2)  # [B, H, T, D], not contiguous
    k = torch.randn(1, 50 + nodes, 1, 64).transpose(1, 2)  # a full cache
    v = torch.randn(1, 1, 60 + nodes, 64)[:, :, : 50 + nodes]
    prefix = torch.tensor([50], dtype=torch.int32)
    expected = tree_attention(q, k, v, ancestors, prefix, scale=0.3)
    plain = tree_attention(q, k, v, ancestors, prefix)
    assert error(plain, dense(Trees(parents, [nodes]), q, k, v, prefix)) < 1e-5
    assert error(expected, plain) > 1e-3
    assert error(kernel.launch(q, k, v, ancestors, prefix, 0.3, splits=2), expected) < 1e-5


@pytest.mark.interpreted
@pytest.mark.parametrize(("length", "meant"), [(-(2**20), 0), (-3, 0), (100, 48), (2**30, 48)])
def test_a_length_outside_the_cache_reads_nothing_outside_it(length, meant):
    """On a GPU nobody checks it, and TensorRT times kernels on lengths of its own making."""
    q, k, v = torch.randn(1, 2, 4, 64), torch.randn(1, 1, 48, 64), torch.randn(1, 1, 48, 64)
    ancestors = pack_ancestors(torch.tensor([[-1, 0, 0, 1]]))
    got = kernel.launch(q, k, v, ancestors, torch.tensor([length]), 0.125, splits=2)
    expected = kernel.launch(q, k, v, ancestors, torch.tensor([meant]), 0.125, splits=2)
    assert torch.equal(got, expected)


@pytest.mark.interpreted
def test_a_query_that_sees_nothing_gives_zeros():
    q, k = torch.randn(1, 1, 2, 64), torch.full((1, 1, 4, 64), float("nan"))
    ancestors, prefix = torch.zeros(1, 2, 1, dtype=torch.int32), torch.tensor([0])
    assert torch.equal(tree_attention(q, k, k, ancestors, prefix), torch.zeros_like(q))
    assert torch.equal(kernel.launch(q, k, k, ancestors, prefix, 1.0, splits=2), torch.zeros_like(q))


@settings(max_examples=150, deadline=None, derandomize=True)
@given(trees(4, 80))
def test_packed_ancestors_are_the_links_followed_upward(tree):
    packed = pack_ancestors(tree.parents)
    assert packed.dtype == torch.int32
    for b in range(tree.batch):
        for n in range(tree.nodes):
            bits = {32 * w + i for w, word in enumerate(packed[b, n].tolist()) for i in range(32) if word >> i & 1}
            assert bits == tree.ancestors(b, n)


def test_the_longest_chain():
    packed = pack_ancestors(torch.arange(-1, 511)[None])
    assert packed.shape == (1, 512, 16)
    assert (packed[0, 511] == -1).all()
    assert packed[0, 33].tolist() == [-1, 3] + [0] * 14


def test_splits_fill_a_gpu_and_stay_useful():
    assert kernel.choose_splits(programs=8, cache_rows=8192, block_n=64, processors=132) == 32
    assert kernel.choose_splits(programs=8, cache_rows=300, block_n=64, processors=132) == 1
    assert kernel.choose_splits(programs=1000, cache_rows=8192, block_n=64, processors=132) == 1


def test_wrong_input():
    q, k = torch.randn(2, 4, 3, 64), torch.randn(2, 2, 10, 64)
    ancestors, prefix = pack_ancestors(torch.tensor([[-1, 0, 1]] * 2)), torch.tensor([7, 2])

    def call(q=q, k=k, v=k, ancestors=ancestors, prefix=prefix):
        return tree_attention(q, k, v, ancestors, prefix)

    assert call().shape == q.shape
    with pytest.raises(TypeError, match="q must be float32, float16 or bfloat16"):
        call(q=q.double())
    with pytest.raises(TypeError, match=r"v_cache must be torch\.float32 like q"):
        call(v=k.half())
    with pytest.raises(TypeError, match="ancestors must be int32"):
        call(ancestors=ancestors.long())
    with pytest.raises(TypeError, match="prefix_length must be int32 or int64"):
        call(prefix=prefix.float())
    with pytest.raises(TypeError, match="q must be a tensor"):
        call(q=None)
    with pytest.raises(ValueError, match=r"one mask for each query, got \[2, 2, 1\]"):
        call(ancestors=ancestors[:, :2])
    with pytest.raises(ValueError, match="may name 512 rows, got 17 words"):
        call(ancestors=torch.zeros(2, 3, 17, dtype=torch.int32))
    with pytest.raises(ValueError, match=r"prefix_length\[0\] must lie in 0..10, the cache's rows, got 11"):
        call(prefix=torch.tensor([11, 2]))
    with pytest.raises(ValueError, match=r"ancestors\[0\] names tree row 2 after a prefix of 8"):
        call(prefix=torch.tensor([8, 2]))
    with pytest.raises(ValueError, match=r"prefix_length must be \[B\] = \[2\]"):
        call(prefix=torch.tensor([1]))
    with pytest.raises(ValueError, match="4 heads must be a multiple of the cache's 3 heads"):
        call(k=torch.randn(2, 3, 10, 64), v=torch.randn(2, 3, 10, 64))
    with pytest.raises(ValueError, match=r"k_cache must be \[B, H_kv, S, D\]"):
        call(k=k[..., :32])
    with pytest.raises(ValueError, match="must have one shape"):
        call(v=k[:, :, :9])
    with pytest.raises(ValueError, match="contiguous in its last dimension"):
        call(k=torch.randn(2, 2, 64, 10).transpose(2, 3))
    for name in ("k", "v", "ancestors", "prefix"):
        moved = {"k": k, "v": k, "ancestors": ancestors, "prefix": prefix}[name].to("meta")
        with pytest.raises(ValueError, match="is on meta and q on cpu: use one device"):
            call(**{name: moved})
    with pytest.raises(ValueError, match="q is on meta, where no plugin runs"):
        call(q=q.to("meta"))
    with pytest.raises(ValueError, match="parents is on meta, where no plugin runs"):
        pack_ancestors(torch.tensor([[-1, 0]], device="meta"))
    with pytest.raises(ValueError, match=r"parents\[0, 1\] must be -1 or a node before 1, got 2"):
        pack_ancestors(torch.tensor([[-1, 2, 0]]))
    with pytest.raises(ValueError, match="N from 1 to 512"):
        pack_ancestors(torch.full((1, 513), -1))
    with pytest.raises(TypeError, match="parents must be an int64 or int32 tensor"):
        pack_ancestors([[-1, 0]])
