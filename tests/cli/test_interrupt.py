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


COMMAND = "from saguaro.cli import main; main()"
# The same, and each stage of a build is a line on standard output.
TELLING = """
from saguaro.cli import main, progress
shown = progress.BuildProgress.update
def update(self, stage, done, total):
    print(stage, flush=True)
    shown(self, stage, done, total)
progress.BuildProgress.update = update
main()
"""


def start(*arguments: object, program: str = COMMAND) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
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
    assert errors == b"Interrupted.\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("stage", ["target: Building engine", "target: Timing", "draft: Optimizing graph"])
def test_inside_the_tensorrt_compiler_nothing_is_left(pair, tmp_path, stage):
    pytest.importorskip("tensorrt_rtx")
    process = start(
        "build", "--target", pair / "target", "--draft", pair / "draft", "-o", tmp_path / "engine", "-q",
        "--backend", "tensorrt-rtx", "--precision", "bf16", "--max-seq-len", 256, "--compute-capability", 8.9,
        program=TELLING,
    )  # fmt: skip
    seen = next((line for line in process.stdout if line.startswith(stage.encode())), None)
    assert seen is not None, process.stderr.read()
    assert any(tmp_path.iterdir())
    rest, errors = interrupt(process)
    assert process.returncode == 130
    assert errors == b"Interrupted.\n"
    assert b"hashes" not in rest  # which come after the compiler
    assert list(tmp_path.iterdir()) == []


def wait_until(condition) -> None:
    end = monotonic() + PATIENCE
    while not condition():
        assert monotonic() < end
        sleep(0.02)
