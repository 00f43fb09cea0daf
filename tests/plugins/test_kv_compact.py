"""Row moves: the reference against a copy made row by row, the kernel against the same."""

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from saguaro.plugins import kv_compact
from saguaro.plugins.kv_compact import kernel

from .trees import Trees, trees

SLOW = settings(max_examples=90, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
DTYPES = [torch.float32, torch.float16, torch.bfloat16, torch.int8]


@st.composite
def problems(draw):
    """Root-to-leaf paths of trees, or any rows at all (repeated, backward, out of order)."""
    tree: Trees = draw(trees(5, 12, min_batch=3))
    paths = []
    for b, size in enumerate(tree.sizes):
        if draw(st.booleans()):
            paths.append(sorted(tree.ancestors(b, draw(st.integers(0, size - 1)))))
        else:
            paths.append(draw(st.lists(st.integers(-1, size - 1), max_size=tree.nodes)))
    width = max(map(len, paths)) + draw(st.sampled_from([0, 0, 2]))
    width = min(width, tree.nodes)
    rows = torch.tensor([p[:width] + [-1] * (width - len(p)) for p in paths], dtype=torch.int64)
    rows = rows.reshape(tree.batch, width)
    prefix = torch.tensor([draw(st.sampled_from([0, 1, 6, 20])) for _ in range(tree.batch)])
    cache_rows = int(prefix.max()) + tree.nodes + draw(st.sampled_from([0, 3]))
    layers, heads = draw(st.sampled_from([(1, 1), (2, 1), (3, 2)]))
    size, dtype = draw(st.sampled_from([8, 64, 80, 128])), draw(st.sampled_from(DTYPES))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    shape = (layers, tree.batch, heads, cache_rows, size)
    k, v = (torch.randint(-100, 100, shape, generator=generator).to(dtype) for _ in range(2))
    return k, v, rows, prefix


def moved(cache: torch.Tensor, rows: torch.Tensor, prefix: torch.Tensor) -> torch.Tensor:
    """[L, B, H, S, D] row by row, from an untouched copy."""
    out = cache.clone()
    for b in range(rows.shape[0]):
        for j, row in enumerate(rows[b].tolist()):
            if row >= 0:
                out[:, b, :, int(prefix[b]) + j] = cache[:, b, :, int(prefix[b]) + row]
    return out


seen = {"reference": 0, "kernel": 0}


@SLOW
@given(problems())
def test_the_reference_moves_rows(problem):
    k, v, rows, prefix = problem
    seen["reference"] += rows.shape[0]
    expected = moved(k, rows, prefix), moved(v, rows, prefix)
    assert kv_compact(k, v, rows, prefix) is None
    assert torch.equal(k, expected[0])
    assert torch.equal(v, expected[1])


@pytest.mark.interpreted
@SLOW
@given(problems(), st.booleans())
def test_the_kernel_moves_rows(problem, narrow):
    k, v, rows, prefix = problem
    seen["kernel"] += rows.shape[0]
    expected = moved(k, rows, prefix), moved(v, rows, prefix)
    if narrow:
        rows, prefix = rows.int(), prefix.int()
    kernel.launch([*k.unbind(0), *v.unbind(0)], rows, prefix)
    assert torch.equal(k, expected[0])
    assert torch.equal(v, expected[1])


@pytest.mark.interpreted
def test_enough_trees_were_tried():
    assert min(seen.values()) >= 300, seen


@pytest.mark.interpreted
def test_the_kernel_for_one_pair_of_caches():
    """The variant that TensorRT embeds: K and V of one layer, without a table of pointers."""
    torch.manual_seed(0)
    k, v = torch.randn(2, 3, 20, 64), torch.randn(2, 3, 20, 64)
    rows, prefix = torch.tensor([[0, 2, 5], [0, 3, -1]], dtype=torch.int32), torch.tensor([4, 9]).int()
    expected = moved(k[None], rows, prefix)[0], moved(v[None], rows, prefix)[0]
    kernel.compact_pair_kernel[(2, 6, 1)](k, v, rows, prefix, 3, 20, 3, k, v, D=64, ROWS=4, BLOCK_D=64)
    assert torch.equal(k, expected[0])
    assert torch.equal(v, expected[1])


@pytest.mark.interpreted
def test_the_kernel_leaves_rows_outside_the_cache_alone():
    k = torch.randn(1, 1, 6, 8)
    before, v = k.clone(), k.clone()
    kernel.launch([k, v], torch.tensor([[3, 2]]), torch.tensor([4]))
    assert torch.equal(k, before)
    kernel.launch([k, v], torch.tensor([[1, 0]]), torch.tensor([-1]))
    assert torch.equal(k, before)


def test_lists_of_layers_views_and_single_layers():
    torch.manual_seed(1)
    store = torch.randn(2, 3, 1, 30, 16)
    rows, prefix = torch.tensor([[0, 2], [1, 4], [-1, 3]]), torch.tensor([5, 0, 10])
    expected = moved(store, rows, prefix)
    views, others = ([layer[:, :, :20] for layer in store.clone().unbind(0)] for _ in range(2))
    kv_compact(views, others, rows, prefix)
    for view, layer in zip(views, expected, strict=True):
        assert torch.equal(view, layer[:, :, :20])
    single = store[0].clone()
    kv_compact(single, single.clone(), rows.int(), prefix.int())
    assert torch.equal(single, expected[0])


def test_wrong_input():
    k = torch.randn(2, 1, 10, 8)
    rows, prefix = torch.tensor([[0, 1], [0, 2]]), torch.tensor([3, 7])
    with pytest.raises(TypeError, match=r"rows must be an int32 or int64 tensor, got torch\.float32"):
        kv_compact(k, k, rows.float(), prefix)
    with pytest.raises(TypeError, match="k_cache must be a tensor or a sequence of tensors"):
        kv_compact([], k, rows, prefix)
    with pytest.raises(ValueError, match=r"rows must be \[B, A\] with B = 2"):
        kv_compact(k, k, rows[:1], prefix)
    with pytest.raises(ValueError, match=r"prefix_length must be \[B\]"):
        kv_compact(k, k, rows, prefix[:1])
    with pytest.raises(ValueError, match="k_cache has 2 layers and v_cache 1"):
        kv_compact([k, k], [k], rows, prefix)
    with pytest.raises(ValueError, match="one shape, layout, type and device"):
        kv_compact(k, k[:, :, :9], rows, prefix)
    with pytest.raises(ValueError, match="one shape, layout, type and device"):
        kv_compact(k, k.half(), rows, prefix)
    with pytest.raises(ValueError, match="one shape, layout, type and device"):
        kv_compact(k, k.to("meta"), rows, prefix)
    with pytest.raises(ValueError, match="rows is on meta and k_cache on cpu: use one device"):
        kv_compact(k, k, rows.to("meta"), prefix)
    with pytest.raises(ValueError, match="k_cache is on meta, where no plugin runs"):
        kv_compact(k.to("meta"), k.to("meta"), rows, prefix)
    with pytest.raises(TypeError, match=r"1, 2, 4 or 8 bytes, got torch\.complex128"):
        kv_compact(k.to(torch.complex128), k.to(torch.complex128), rows, prefix)
    with pytest.raises(ValueError, match=r"a cache must be \[B, H_kv, S, D\]"):
        kv_compact(k[0], k[0], rows, prefix)
    with pytest.raises(ValueError, match="contiguous in its last dimension"):
        kv_compact(k.transpose(2, 3), k.transpose(2, 3), rows, prefix)
    with pytest.raises(ValueError, match=r"rows\[1, 1\] = 3 after a prefix of 7 leaves the cache of 10 rows"):
        kv_compact(k, k, torch.tensor([[0, 1], [0, 3]]), prefix)
    with pytest.raises(ValueError, match=r"rows\[0, 0\] = -2"):
        kv_compact(k, k, torch.tensor([[-2, 1], [0, 2]]), prefix)
    with pytest.raises(ValueError, match=r"prefix_length\[0\] must lie in 0..10"):
        kv_compact(k, k, rows, torch.tensor([11, 0]))
    with pytest.raises(ValueError, match="at most 512 rows"):
        kv_compact(k, k, torch.zeros(2, 513, dtype=torch.int64), prefix)
