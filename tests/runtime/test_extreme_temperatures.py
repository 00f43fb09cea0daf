"""Temperatures at the ends of what floats hold."""

from __future__ import annotations

import pytest

from saguaro import SamplingParams
from tests.runtime.engines import Engines, random_prompts, same_in_all_modes, token_ids

PROMPTS = random_prompts(2, seed=21)


@pytest.mark.parametrize("temperature", [1e-5, 1e-6, 1e-40, 5e-324])
def test_very_low_is_greedy(engines: Engines, temperature: float) -> None:
    llm = engines.llm()
    params = SamplingParams(max_tokens=8, temperature=temperature, seed=3, ignore_eos=True)
    ours = token_ids(same_in_all_modes(llm, PROMPTS, params)["ssd"])
    greedy = SamplingParams(max_tokens=8, temperature=0, ignore_eos=True)
    assert ours == token_ids(llm.generate(PROMPTS, greedy, mode="ar"))


def test_very_high(engines: Engines) -> None:
    """All tokens are equally likely, so the noise alone decides, and that is the same after any prompt."""
    params = SamplingParams(max_tokens=8, temperature=1e30, seed=3, ignore_eos=True)
    prompts = [[5, 6, 7], [90, 91, 92]]
    one, other = token_ids(same_in_all_modes(engines.llm(), prompts, params)["ssd"])
    assert one == other
    assert len(set(one)) > 4
