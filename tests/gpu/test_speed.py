"""Kernel times against the bandwidth floor: the bytes that must move over what a large copy reaches.

Each prints its share of the floor (`pytest -s`); the bars are loose, to catch what is badly wrong.
"""

import pytest
import torch

from saguaro.plugins import kv_compact, pack_ancestors, tree_accept, tree_attention

from .timing import bandwidth, milliseconds

LAUNCH = 0.008  # ms: a kernel's own start and end, which no traffic explains; each call has one or two


@pytest.fixture(scope="module")
def bytes_per_ms() -> float:
    return bandwidth() / 1e3


def report(name: str, call, moved: int, bytes_per_ms: float, bar: float, capsys) -> None:
    took, floor = milliseconds(call), moved / bytes_per_ms
    with capsys.disabled():
        print(f"\n{name}: {took:.4f} ms, floor {floor:.4f} ms, {floor / took:.0%} of bandwidth")  # noqa: T201
    assert floor / max(took - 2 * LAUNCH, 1e-6) > bar


@pytest.mark.parametrize("rows", [4096, 32_768])
@pytest.mark.parametrize("batch", [1, 8])
def test_tree_attention_of_an_8b_layer(rows, batch, bytes_per_ms, capsys):
    nodes, heads, kv_heads, size = 8, 32, 8, 128
    q = torch.randn(batch, heads, nodes, size, dtype=torch.bfloat16, device="cuda")
    k = torch.randn(batch, kv_heads, rows, size, dtype=torch.bfloat16, device="cuda")
    v = torch.randn_like(k)
    ancestors = pack_ancestors(torch.arange(-1, nodes - 1, device="cuda").expand(batch, -1))
    prefix = torch.full((batch,), rows - nodes, device="cuda")
    report(
        f"tree_attention B {batch} S {rows}",
        lambda: tree_attention(q, k, v, ancestors, prefix),
        2 * k.numel() * 2, bytes_per_ms, 0.4, capsys,
    )  # fmt: skip


@pytest.mark.parametrize("setting", [(0.0, 0, 1.0, 0.0), (1.0, 0, 1.0, 0.0), (0.7, 20, 0.8, 0.0)])
@pytest.mark.parametrize("nodes", [6, 64])
def test_tree_accept_at_128256_tokens(setting, nodes, bytes_per_ms, capsys):
    logits = torch.randn(1, nodes, 128_256, device="cuda") * 3
    tokens = torch.randint(0, 128_256, (1, nodes), device="cuda")
    parents = torch.arange(-1, nodes - 1, device="cuda")[None]
    arguments = [torch.tensor([x], device="cuda") for x in (1, 9, *setting)]
    filtered = setting[1] > 0
    report(
        f"tree_accept N {nodes} {setting}",
        lambda: tree_accept(logits, tokens, parents, *arguments),
        logits.numel() * 4, bytes_per_ms, 0.005 if filtered else 0.15, capsys,
    )  # fmt: skip


def test_kv_compact_of_an_8b_model(bytes_per_ms, capsys):
    layers, kv_heads, rows, size, moves = 32, 8, 4096, 128, 6
    k = torch.randn(layers, 1, kv_heads, rows, size, dtype=torch.bfloat16, device="cuda")
    v = torch.randn_like(k)
    path = torch.tensor([[0, 2, 3, 5, 8, 13]], device="cuda")
    prefix = torch.tensor([4000], device="cuda")
    moved = 2 * 2 * layers * kv_heads * (moves - 1) * size * 2
    report("kv_compact", lambda: kv_compact(k, v, path, prefix), moved, bytes_per_ms, 0.05, capsys)
