"""Packed masks against dense ones: `CudaSession` on the CPU gives what `TorchSession` gives."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from saguaro.builder.checkpoint import open_checkpoint
from saguaro.builder.fused_weights import fused_weights
from saguaro.builder.progress import silent
from saguaro.engine.rows import draft_rows, target_rows
from saguaro.models.tree_operations import TREE_ROWS, pack_rows
from saguaro.runtime.pair import LoadedModel, Pair
from saguaro.runtime.sampling_params import SamplingParams
from saguaro.runtime.sequence import Sequence
from saguaro.runtime.sessions import cuda_session
from saguaro.runtime.sessions.cuda_session import CudaSession
from saguaro.runtime.sessions.session import Session, Step
from saguaro.runtime.sessions.torch_session import TorchSession, eager_forward
from tests.runtime.engines import random_prompts
from tests.support.checkpoints import make_checkpoint, noisy_copy

CPU = torch.device("cpu")
SLOTS, ROWS = 3, 96
K, B = 3, 5  # lookahead and budget of the draft's branches
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaForCausalLM", {}),  # heads of 16, which become 64
    "heads of 64": ("LlamaForCausalLM", {"head_dim": 64, "num_key_value_heads": 1}),
    "heads of 72": ("MistralForCausalLM", {"head_dim": 72, "num_key_value_heads": 4}),
    "qwen2": ("Qwen2ForCausalLM", {}),
    "qwen3": ("Qwen3ForCausalLM", {"tie_word_embeddings": True}),
}


@pytest.fixture(autouse=True)
def inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    made: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in made:
            architecture, changes = KINDS[kind]
            folder = tmp_path_factory.mktemp("model")
            with torch.inference_mode(False):
                made[kind] = make_checkpoint(folder, architecture, initializer_range=0.1, **changes)
        return made[kind]

    return get


def sessions(path: Path, slots: int = SLOTS, rows: int = ROWS) -> tuple[TorchSession, CudaSession]:
    """The same model dense and packed. What no token may see is garbage; NaN where that is allowed to be."""
    checkpoint = open_checkpoint(str(path))
    config = checkpoint.config
    weights = fused_weights(config, checkpoint.tensors, torch.float32, silent, "test")
    limits: Any = {"dtype": torch.float32, "max_batch_size": slots, "rows": rows, "device": CPU}
    dense = TorchSession(eager_forward(config, weights, rows), config, **limits)
    packed = CudaSession(config, weights, **limits)
    dense.cache.fill_(1e4)
    packed.cache.fill_(torch.nan)
    return dense, packed


def random_step(
    visible: torch.Tensor, depth: torch.Tensor, prefix: list[int], first_row: int, first_slot: int = 0
) -> Step:
    """Random tokens `[n, T]` at `depth` `[T]` after the prefix, their rows from `prefix + first_row` on."""
    tokens = torch.randint(0, 320, (len(prefix), len(depth)))
    positions = torch.tensor(prefix).unsqueeze(1) + depth
    write = [rows + first_row for rows in prefix]
    return Step(tokens, positions, prefix, visible.expand(len(prefix), -1, -1), write, first_slot)


def chain(length: int, prefix: list[int], first_slot: int = 0) -> Step:
    causal = torch.ones(1, length, length, dtype=torch.bool).tril()
    return random_step(causal, torch.arange(length), prefix, 0, first_slot)


def tree(parents: list[int], prefix: list[int]) -> Step:
    visible, depth = torch.eye(len(parents), dtype=torch.bool), torch.zeros(len(parents), dtype=torch.int64)
    for node, parent in enumerate(parents):
        if parent >= 0:
            visible[node] |= visible[parent]
            depth[node] = depth[parent] + 1
    return random_step(visible.unsqueeze(0), depth, prefix, 0)


def branches(depth: int, after: list[list[int]], prefix: list[int]) -> Step:
    """The draft's step: B branches at their `depth`, which left the chain `after` one of its K + 1 rows."""
    left = torch.tensor(after)
    sees_chain = torch.arange(K + 1) <= left.unsqueeze(-1)
    sees_own = torch.eye(B, dtype=torch.bool).repeat(1, depth + 1).expand(len(after), -1, -1)
    visible, no_depth = torch.cat([sees_chain, sees_own], -1), torch.zeros(B, dtype=torch.int64)
    step = random_step(visible, no_depth, prefix, K + 1 + depth * B)
    step.positions = step.positions + left + 1 + depth
    return step


def same(dense: TorchSession, packed: CudaSession, step: Step) -> None:
    expected, got = dense.forward(step), packed.forward(step)
    assert got.shape == expected.shape
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-4)
    size = packed.head_dim
    for b, row in enumerate(step.write_index):  # and the rows written are those of the dense session
        slot, rows = step.first_slot + b, slice(row, row + step.tokens.shape[1])
        torch.testing.assert_close(
            packed.cache[:, slot, :, rows, :size], dense.cache[:, slot, :, rows], rtol=1e-4, atol=1e-4
        )


@pytest.fixture
def no_dense_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> torch.Tensor:
        raise AssertionError("a dense mask was made")

    monkeypatch.setattr(cuda_session, "dense_mask", fail)


@pytest.mark.parametrize("kind", KINDS)
def test_logits_are_those_of_dense_masks(checkpoint: Any, kind: str, no_dense_mask: None) -> None:
    """A prompt in chunks, chains, trees and branches, of one sequence and of two with unequal prefixes."""
    torch.manual_seed(1)
    dense, packed = sessions(checkpoint(kind))
    for step in (
        chain(20, [0]),
        chain(13, [20]),  # a second chunk of the first prompt: 33 rows
        chain(1, [0], first_slot=1),
        chain(6, [1], first_slot=1),  # 7 rows
        chain(1, [33, 7]),
        chain(K + 1, [34, 8]),
        tree([-1, 0, 0, 1, 1, 2, 5, 5, 3], [34, 8]),
        tree([-1] + [0] * 40, [34, 8]),  # two words of bits
        chain(K + 1, [35, 9]),
        *(branches(depth, [[0, 0, 1, 3, 3], [2, 3, 3, 3, 1]], [35, 9]) for depth in range(K)),
        chain(2, [36, 0]),  # the second does not count, and writes over its rows
    ):
        same(dense, packed, step)


def test_a_token_may_see_any_of_the_rows(checkpoint: Any, no_dense_mask: None) -> None:
    """Not only ancestors: any rows after the prefix that were written, over up to all 512 bits."""
    torch.manual_seed(2)
    dense, packed = sessions(checkpoint("llama"), slots=2, rows=TREE_ROWS + 40)
    for part in range(4):
        same(dense, packed, chain(128, [part * 128, part * 128]))
    for prefix in ([0, 0], [3, 20]):
        visible = torch.rand(2, 6, TREE_ROWS - 6) < 0.5
        visible = torch.cat([visible, torch.eye(6, dtype=torch.bool).expand(2, -1, -1)], -1)
        step = random_step(visible, torch.arange(6), prefix, TREE_ROWS - 6)
        step.positions = step.positions % 100
        if prefix[1]:  # its rows up to 512 + 20 have to exist
            same(dense, packed, chain(20, [TREE_ROWS, TREE_ROWS]))
        same(dense, packed, step)


def test_more_rows_than_bits_take_a_dense_mask(checkpoint: Any) -> None:
    torch.manual_seed(3)
    dense, packed = sessions(checkpoint("qwen3"), slots=1, rows=TREE_ROWS + 60)
    same(dense, packed, chain(40, [0]))
    same(dense, packed, chain(TREE_ROWS + 1, [40]))


def test_bits_are_where_the_plugin_expects_them() -> None:
    visible = torch.rand(2, 3, 70) < 0.5
    visible[0, 0] = True
    words = pack_rows(visible)
    assert words.dtype == torch.int32
    assert words.shape == (2, 3, 3)
    for place in ((0, 0), (1, 2)):
        bits = sum(int(seen) << i for i, seen in enumerate(visible[place].tolist()))
        assert [word & 0xFFFFFFFF for word in words[place].tolist()] == [
            bits >> 32 * i & 0xFFFFFFFF for i in range(3)
        ]


@pytest.mark.parametrize(
    ("sources", "target"),
    [([5, 8, 11], 5), ([7, 6, 9], 6), ([6, 7, 8], 5), ([3, 4, 5], 5), ([9, 2], 4), ([4, 5], 4), ([], 3)],
)
def test_rows_move_as_if_all_were_read_first(checkpoint: Any, sources: list[int], target: int) -> None:
    _, packed = sessions(checkpoint("llama"))
    packed.cache.copy_(torch.randn_like(packed.cache))
    before = packed.cache.clone()
    packed.move_rows(1, sources, target)
    expected = before.clone()
    for offset, source in enumerate(sources):
        expected[:, 1, :, target + offset] = before[:, 1, :, source]
    assert torch.equal(packed.cache, expected)


def test_a_slot_moves_whole(checkpoint: Any) -> None:
    _, packed = sessions(checkpoint("llama"))
    packed.cache.copy_(torch.randn_like(packed.cache))
    kept = packed.cache.clone()
    packed.move_slot(2, 0)
    assert torch.equal(packed.cache[:, 0], kept[:, 2])
    assert torch.equal(packed.cache[:, 1:], kept[:, 1:])


def test_rounds_give_the_tokens_of_the_dense_session(tmp_path: Path) -> None:
    """AR, SD and SSD through the whole round loop, three sequences at a time, greedy and sampled."""
    with torch.inference_mode(False):
        target = make_checkpoint(tmp_path / "target")
        draft = noisy_copy(target, tmp_path / "draft", 0.03)
    speculation = {"lookahead": 4, "budget": 8, "fan_out": "adaptive", "fallback": "draft"}
    prompts = random_prompts(5, most=30)
    tokens = {}
    for packed in (False, True):
        load_draft = partial(loaded, "draft", draft, draft_rows(128, 4, 8), packed)
        pair = Pair(loaded("target", target, target_rows(128, 4), packed), load_draft, speculation, 16)
        for mode in ("ar", "sd", "ssd"):
            sequences = [
                Sequence(list(p), SamplingParams(max_tokens=40, temperature=0.8 * (i % 2)), i, frozenset())
                for i, p in enumerate(prompts)
            ]
            for _ in pair.run(sequences, mode):
                pass
            tokens[packed, mode] = [sequence.generated for sequence in sequences]
            if mode != "ar":  # something was accepted, and so rows were moved
                assert sum(s.metrics.accepted for s in sequences) > 20
        pair.close()
    assert all(generated == tokens[False, "ar"] for generated in tokens.values())


@pytest.fixture
def capturing(checkpoint: Any) -> CudaSession:
    """A session on the CPU that believes it can capture."""
    _, packed = sessions(checkpoint("llama"))
    packed._capture, packed._pool, packed._side = True, None, None  # type: ignore[assignment]
    return packed


def test_what_repeats_is_captured_and_prompts_are_not(
    capturing: CudaSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    class StandIn:
        def __init__(self, run: Any, inputs: Any, *_: object):
            self.run, self.first = run, inputs

        def __call__(self, inputs: Any) -> torch.Tensor:
            assert [t.shape for t in inputs] == [t.shape for t in self.first]
            return self.run(inputs)

    monkeypatch.setattr(cuda_session, "CapturedStep", StandIn)
    monkeypatch.setattr(cuda_session, "MOST_GRAPHS", 2)
    waits: list[int] = []
    stream = SimpleNamespace(synchronize=lambda: waits.append(len(capturing.captured_shapes)))
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: stream)
    for prefix in (0, 1):
        assert not capturing.captured_shapes
        capturing.forward(chain(4, [prefix]))
    for prefix in range(3):
        capturing.forward(chain(65, [prefix]))
        capturing.forward(chain(5, [prefix], first_slot=1))
    assert capturing.captured_shapes == [(1, 4, 4)]
    for _ in range(2):
        capturing.forward(chain(1, [9, 4]))
    capturing.forward(chain(4, [8]))
    for _ in range(2):
        capturing.forward(tree([-1, 0, 0], [5]))
    assert capturing.captured_shapes == [(1, 4, 4), (1, 3, 3)]  # the one least recently used made room
    assert waits == [2]  # for what was running in it


def test_a_capture_that_fails_costs_one_warning(
    capturing: CudaSession, checkpoint: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("no graphs today")

    monkeypatch.setattr(cuda_session, "CapturedStep", fail)
    torch.manual_seed(4)
    dense, _ = sessions(checkpoint("llama"))
    for length in (3, 3, 3, 2, 2):
        same(dense, capturing, chain(length, [0]))
    assert [record.getMessage() for record in caplog.records] == [
        "steps run without CUDA graphs, more slowly: a capture failed (no graphs today)"
    ]


def loaded(role: str, path: Path, rows: int, packed: bool) -> LoadedModel:
    def load() -> Session:
        return sessions(path, slots=3, rows=rows)[packed]

    return LoadedModel(role, CPU, 1, load)
