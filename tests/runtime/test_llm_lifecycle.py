"""An LLM after an abandoned stream, an error in a model, requests side by side, and when it is closed."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from threading import Thread

import pytest
import torch

from saguaro import LLM, SamplingParams
from saguaro.errors import RequestError, SaguaroError
from saguaro.runtime.sessions.session import Step
from saguaro.runtime.sessions.torch_session import TorchSession
from tests.runtime.engines import MODES, Engines, random_prompts, token_ids

PROMPTS = random_prompts(5, most=20, seed=4)
PARAMS = SamplingParams(max_tokens=20, temperature=0.8, seed=1, ignore_eos=True)


@pytest.mark.parametrize("mode", MODES)
def test_an_abandoned_stream(engines: Engines, mode: str) -> None:
    llm = engines.llm()
    expected = token_ids(llm.generate(PROMPTS, PARAMS, mode="ar"))
    for rounds in (0, 1, 2):
        stream = llm.stream(PROMPTS[4], PARAMS, mode=mode)
        for _ in range(rounds):
            next(stream)
        stream.close()  # type: ignore[attr-defined]
        assert token_ids(llm.generate(PROMPTS, PARAMS, mode=mode)) == expected


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("at", [1, 4, 9])
def test_an_error_in_a_forward(engines: Engines, monkeypatch: pytest.MonkeyPatch, mode: str, at: int) -> None:
    """It reaches the caller as it is, and the next request is served as if nothing had been."""
    llm = engines.llm()
    expected = token_ids(llm.generate(PROMPTS, PARAMS, mode="ar"))
    forward, calls = TorchSession.forward, 0

    def failing(session: TorchSession, step: Step) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == at:
            raise MemoryError("as if")
        return forward(session, step)

    with monkeypatch.context() as patch:
        patch.setattr(TorchSession, "forward", failing)
        with LLM(llm.directory) as broken:  # its sessions take the failing forward up
            with pytest.raises(MemoryError, match="as if"):
                broken.generate(PROMPTS, PARAMS, mode=mode)
            assert token_ids(broken.generate(PROMPTS, PARAMS, mode=mode)) == expected


def test_modes_may_change_between_requests(engines: Engines) -> None:
    with LLM(engines.llm().directory, mode="ar") as llm:
        runs = [
            token_ids(llm.generate(PROMPTS, PARAMS, mode=mode)) for mode in (None, "ssd", "sd", "ar", "ssd")
        ]
        assert all(run == runs[0] for run in runs)
        assert llm.mode == "ar"


def test_bad_requests_leave_it_usable(engines: Engines) -> None:
    llm = engines.llm()
    limit = llm.manifest.max_seq_len
    for prompts, params, words in (
        ([], [PARAMS], "sampling_params"),
        ("", PARAMS, "empty"),
        ([[]], PARAMS, "empty"),
        ([[1], [320]], PARAMS, "320"),
        ([[-1]], PARAMS, "-1"),
        ([[5] * limit], SamplingParams(max_tokens=1), str(limit)),
        ([[5] * 10], SamplingParams(max_tokens=limit - 9), str(limit)),
    ):
        with pytest.raises(RequestError, match=words):
            llm.generate(prompts, params)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="n is 2"):
        llm.stream([1], SamplingParams(n=2))
    with pytest.raises(SaguaroError, match="mode"):
        llm.generate([1], PARAMS, mode="fast")
    assert llm.generate([], PARAMS) == []
    assert len(llm.generate([[5] * (limit - 1)], SamplingParams(max_tokens=1))[0].outputs[0].token_ids) == 1


@pytest.mark.parametrize("mode", MODES)
def test_two_streams_at_once(engines: Engines, mode: str) -> None:
    """Either both are right, or the second is refused in words; never wrong tokens."""
    llm = engines.llm()
    expected = token_ids(llm.generate(PROMPTS[:2], PARAMS, mode="ar"))
    streams = [llm.stream(prompt, PARAMS, mode=mode) for prompt in PROMPTS[:2]]
    given: list[list[int]] = [[], []]
    try:
        for chunks in zip(*streams, strict=False):
            for i, chunk in enumerate(chunks):
                given[i] += chunk.token_ids
    except SaguaroError:
        pass
    for stream in streams:
        stream.close()  # type: ignore[attr-defined]
    for tokens, right in zip(given, expected, strict=True):
        assert tokens == right[: len(tokens)]


def ends(call: object) -> bool:
    """Whether the call comes back, with a result or an error."""

    def run() -> None:
        with suppress(SaguaroError):
            call()  # type: ignore[operator]

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(timeout=2)
    return not thread.is_alive()


def test_closing_twice(engines: Engines) -> None:
    llm = LLM(engines.llm().directory)
    llm.close()
    assert ends(llm.close)


def test_a_closed_llm_refuses(engines: Engines) -> None:
    llm = LLM(engines.llm().directory)
    llm.close()
    assert ends(lambda: llm.generate(PROMPTS, PARAMS))


def test_an_engine_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(SaguaroError, match="no such engine"):
        LLM(tmp_path / "nothing")
