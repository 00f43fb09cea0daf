"""One forward over a token tree gives each node the logits that its path alone would give."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from saguaro.runtime.speculation import Speculation
from tests.models.conftest import KINDS
from tests.models.reference import chain, close, expected, session, tree

PROMPT = torch.randint(1, 320, (9,), generator=torch.Generator().manual_seed(6)).tolist()
BRANCHING = Speculation((40, 41, 42, 43, 44, 45, 46, 47), (0, 0, 1, 1, 2, 5, 5, 3))


@pytest.mark.parametrize("kind", KINDS)
def test_every_node_equals_its_path(checkpoint: Callable[[str], Path], kind: str) -> None:
    path, prefix = checkpoint(kind), len(PROMPT) - 1
    ours = session(path)
    ours.forward(chain([PROMPT[:-1]], [0]))
    logits = ours.forward(tree(PROMPT[-1], BRANCHING, prefix))[0]
    assert close(logits[0], expected(path, PROMPT)[-1])
    for node in range(1, len(BRANCHING) + 1):
        tokens = PROMPT + [BRANCHING.tokens[n - 1] for n in BRANCHING.path(node)]
        alone = session(path)
        assert close(logits[node], alone.forward(chain([tokens], [0]))[0, -1])
        assert close(logits[node], expected(path, tokens)[-1])


def test_random_trees(checkpoint: Callable[[str], Path]) -> None:
    path, prefix = checkpoint("llama"), len(PROMPT) - 1
    dice = random.Random(3)
    for size in (1, 5, 12, 20):
        parents = tuple(dice.randrange(node + 1) for node in range(size))
        speculation = Speculation(tuple(dice.randrange(320) for _ in range(size)), parents)
        ours, alone = session(path), session(path)
        ours.forward(chain([PROMPT[:-1]], [0]))
        logits = ours.forward(tree(PROMPT[-1], speculation, prefix))[0]
        for node in range(1, size + 1):
            tokens = PROMPT + [speculation.tokens[n - 1] for n in speculation.path(node)]
            assert close(logits[node], alone.forward(chain([tokens], [0]))[0, -1])
