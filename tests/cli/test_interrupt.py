"""Ctrl-C, as a terminal sends it: to the whole process group of a real process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from itertools import islice
from time import monotonic, sleep

import pytest

from saguaro import LLM

PATIENCE = 120  # seconds, for a busy machine


def start(*arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", "from saguaro.cli import main; main()", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # whoever started the tests in the background had SIGINT ignored, and that is inherited
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def interrupt(process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
    os.killpg(process.pid, signal.SIGINT)
    try:
        return process.communicate(timeout=PATIENCE)
    finally:
        process.kill()


def test_during_generate_what_there_is_stays(engine):
    process = start("generate", engine, "--prompt", "x", "--mode", "ar", "--max-tokens", 4000)
    first = process.stdout.read(20)
    rest, errors = interrupt(process)
    assert process.returncode == 130
    assert len(first) == 20
    assert rest.endswith(b"\n")
    assert errors.startswith(b"Interrupted after ")
    assert b"Traceback" not in errors


def test_during_generate_json_is_still_one_object(saguaro, engine, monkeypatch):
    whole = json.loads(saguaro("generate", engine, "--prompt", "x", "--max-tokens", 30, "--json").stdout)
    stream = LLM.stream

    def interrupted(*arguments):
        yield from islice(stream(*arguments), 4)
        raise KeyboardInterrupt

    monkeypatch.setattr(LLM, "stream", interrupted)
    result = saguaro("generate", engine, "--prompt", "x", "--max-tokens", 30, "--json")
    assert result.exit_code == 130
    assert result.stderr == ""
    answer = json.loads(result.stdout)
    assert list(answer) == ["text", "token_ids", "finish_reason", "metrics"]
    count = len(answer["token_ids"])
    assert 4 <= count < 30
    assert answer["token_ids"] == whole["token_ids"][:count]
    assert whole["text"].startswith(answer["text"])
    assert answer["finish_reason"] == "abort"
    assert answer["metrics"]["output_tokens"] == count


@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling takes a C++ compiler")
@pytest.mark.parametrize("delay", [0.0, 3.0])
def test_during_build_nothing_is_left(pair, tmp_path, delay):
    process = start(
        "build", "--target", pair / "target", "--draft", pair / "draft", "-o", tmp_path / "engine", "-q"
    )
    wait_until(lambda: any(tmp_path.iterdir()) or process.poll() is not None)
    sleep(delay)  # into the compiler
    assert process.poll() is None
    _, errors = interrupt(process)
    assert process.returncode == 130
    assert b"Traceback" not in errors
    assert list(tmp_path.iterdir()) == []


def wait_until(condition) -> None:
    end = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < end
        sleep(0.02)
