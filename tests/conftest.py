from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """SSD waits for all that the draft prepares, and that is K tokens for every outcome, so that what is counted
    depends neither on timing nor on what was learned before.

    tests/runtime/test_anytime.py takes this back.
    """
    from saguaro.runtime.rounds import ConcurrentLoop
    from saguaro.runtime.speculation.adaptive import AdaptivePolicy

    monkeypatch.setattr(ConcurrentLoop, "anytime", False)
    monkeypatch.setattr(AdaptivePolicy, "worth", 0.0)
