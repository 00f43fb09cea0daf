from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from saguaro.errors import CheckpointError


@pytest.fixture
def refused() -> Callable[..., str]:
    """Call something that must raise CheckpointError with one sentence that has all the given parts."""

    def check(parts: list[str | Path], call: Callable[..., object], *args: object) -> str:
        with pytest.raises(CheckpointError) as caught:
            call(*args)
        sentence = str(caught.value)
        assert "\n" not in sentence
        assert len(sentence) < 700
        for part in parts:
            assert str(part) in sentence
        return sentence

    return check
