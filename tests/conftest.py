from __future__ import annotations

import signal

import pytest

# A shell starts what it puts in the background with Ctrl-C ignored, and so the programs that the tests start and
# interrupt would ignore it too.
signal.signal(signal.SIGINT, signal.default_int_handler)

OWN_WAY = {"sd": "sequential", "ssd": "concurrent"}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """SSD waits for all that the draft prepares, that is K tokens for every outcome, and the fallback auto drafts, so
    that what is counted depends neither on timing nor on what was learned before.

    tests/runtime/test_anytime.py takes this back.
    """
    from saguaro.runtime.auto import Auto
    from saguaro.runtime.speculation.adaptive import AdaptivePolicy
    from saguaro.runtime.speculation.estimates import Fallback, Plan, Way
    from saguaro.runtime.speculative_rounds import ConcurrentLoop

    monkeypatch.setattr(ConcurrentLoop, "anytime", False)
    monkeypatch.setattr(AdaptivePolicy, "worth", 0.0)
    monkeypatch.setattr(Auto, "next_plan", lambda auto, mode, size: Plan(Way(OWN_WAY[mode]), auto.longest))
    monkeypatch.setattr(Auto, "pick", lambda auto, size, waiting, found: Fallback.DRAFT)
