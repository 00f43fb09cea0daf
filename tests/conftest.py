from __future__ import annotations

import pytest

OWN_WAY = {"sd": "sequential", "ssd": "concurrent"}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """SSD waits for all that the draft prepares, that is K tokens for every outcome, and the fallback auto drafts, so
    that what is counted depends neither on timing nor on what was learned before.

    tests/runtime/test_anytime.py takes this back.
    """
    from saguaro.runtime.auto import Auto
    from saguaro.runtime.speculation.adaptive import AdaptivePolicy
    from saguaro.runtime.speculation.estimates import Fallback, Way
    from saguaro.runtime.speculative_rounds import ConcurrentLoop

    monkeypatch.setattr(ConcurrentLoop, "anytime", False)
    monkeypatch.setattr(AdaptivePolicy, "worth", 0.0)
    monkeypatch.setattr(Auto, "next_way", lambda auto, mode, size: Way(OWN_WAY[mode]))
    monkeypatch.setattr(Auto, "pick", lambda auto, size, waiting, found: Fallback.DRAFT)
