from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """SSD waits for all that the draft prepares, so that what is counted does not depend on timing.

    tests/runtime/test_anytime.py takes this back.
    """
    from saguaro.runtime.rounds import ConcurrentLoop

    monkeypatch.setattr(ConcurrentLoop, "anytime", False)
