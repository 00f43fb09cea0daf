"""Rejection verification end to end: tokens of whole runs follow the target's probabilities, by chi-square.

SAGUARO_SEEDS=200000 makes it a long one.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import torch

from saguaro import SamplingParams
from saguaro.runtime.metrics import RequestMetrics
from saguaro.runtime.pair import Pair
from saguaro.runtime.proposals import Proposals
from saguaro.runtime.sequence import Sequence
from tests.models.reference import transformers_model
from tests.runtime.rejection_engines import rejection_pair
from tests.runtime.test_distribution import SIZE, p_value, probabilities
from tests.support.checkpoints import make_checkpoint, noisy_copy

PROMPT = [3, 17, 8, 3, 17]  # repeats itself, so that something can be looked up
SEEDS, LEVEL = int(os.environ.get("SAGUARO_SEEDS", "1000")), 1e-3
FILTERS = {"plain": {"temperature": 1.0}, "all": {"temperature": 1.3, "top_k": 12, "top_p": 0.9, "min_p": 0.02}}


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A small target, and a draft that is accepted about one time in three."""
    home = tmp_path_factory.mktemp("small")
    target = make_checkpoint(home / "target", vocab_size=SIZE, initializer_range=0.2)
    return target, noisy_copy(target, home / "draft", 0.5)


@pytest.fixture(scope="module")
def pairs(checkpoints: tuple[Path, Path]) -> Iterator[dict[str, Pair]]:
    make = partial(rejection_pair, *checkpoints, slots=64, max_seq_len=16, lookahead=2, budget=6)
    made = {
        "draft": make(),
        "ngram": make(fallback="ngram", fan_out="uniform"),
        "saguaro": make(saguaro_c=0.3),
    }
    yield made
    for pair in made.values():
        pair.close()


def p_values(pair: Pair, target: Path, mode: str, filters: dict[str, float]) -> tuple[list[float], RequestMetrics]:
    """Of the first token, the first two together, and the third; and what was measured meanwhile."""
    sequences = [
        Sequence(list(PROMPT), SamplingParams(max_tokens=4, **filters), seed, frozenset())  # type: ignore[arg-type]
        for seed in range(SEEDS)
    ]
    for _ in pair.run(sequences, mode, every_round=False):
        pass
    metrics = RequestMetrics()
    for sequence in sequences:
        metrics.add(sequence.metrics)
    drawn = [sequence.generated[:3] for sequence in sequences]
    one = given(target, [[]], filters)[0]
    two = one.unsqueeze(1) * given(target, [[a] for a in range(SIZE)], filters)
    paths = [[a, b] for a in range(SIZE) for b in range(SIZE)]
    three = two.flatten() @ given(target, paths, filters)
    values = [
        p_value(Counter(tokens[0] for tokens in drawn), one),
        p_value(Counter(tokens[0] * SIZE + tokens[1] for tokens in drawn), two.flatten()),
        p_value(Counter(tokens[2] for tokens in drawn), three),
    ]
    return values, metrics


def given(target: Path, paths: list[list[int]], filters: dict[str, float]) -> torch.Tensor:
    """`[n, V]`: the target's probabilities after the prompt and each path."""
    with torch.inference_mode():
        logits = transformers_model(target)(torch.tensor([[*PROMPT, *path] for path in paths])).logits[:, -1]
    return torch.stack([probabilities(row, **filters) for row in logits])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "mode", "filters"),
    [
        ("draft", "sd", "plain"),
        ("draft", "ssd", "plain"),
        ("ngram", "ssd", "plain"),
        ("saguaro", "ssd", "all"),
    ],
)
def test_tokens_follow_the_target(
    pairs: dict[str, Pair], checkpoints: tuple[Path, Path], kind: str, mode: str, filters: str
) -> None:
    values, metrics = p_values(pairs[kind], checkpoints[0], mode, FILTERS[filters])
    assert min(values) > LEVEL
    assert 0.1 < metrics.acceptance_rate < 0.9  # the test means something
    assert mode == "sd" or 0.1 < metrics.hit_rate < 0.95


def test_another_q_is_found(
    pairs: dict[str, Pair], checkpoints: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The likeliest token proposed, as if it had been sampled from q: the bug of the paper's code, or nearly so."""
    monkeypatch.setattr(Proposals, "tokens", lambda proposals, rows, noise: rows.argmax(-1))
    values, _ = p_values(pairs["draft"], checkpoints[0], "ssd", FILTERS["plain"])
    assert min(values) < 1e-9
