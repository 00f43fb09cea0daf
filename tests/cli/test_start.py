"""The command line starts quickly and says what there is."""

from __future__ import annotations

import subprocess
import sys

import pytest

import saguaro as package


def test_help_names_the_commands(saguaro):
    result = saguaro("--help")
    assert result.exit_code == 0
    for command in ("build", "generate", "bench", "inspect", "demo"):
        assert f"  {command} " in result.stdout


def test_version(saguaro):
    assert package.__version__ in saguaro("--version").stdout


@pytest.mark.parametrize("arguments", [["--help"], ["build", "--help"], ["bench", "--help"], ["--version"]])
def test_help_does_not_wait_for_torch(arguments):
    code = (
        "import sys; from saguaro.cli import main; main(sys.argv[1:], standalone_mode=False); "
        "sys.exit(int(not {'torch', 'transformers', 'pydantic'}.isdisjoint(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["frobnicate"], "No such command 'frobnicate'"),
        (["generate"], "ENGINE"),
        (["build", "--lookahed", "3"], "--lookahead"),
        (["build", "--lookahead", "three"], "'three' is not a valid integer"),
        (["bench", "x", "--repeat", "0"], "--repeat"),
    ],
)
def test_usage_errors_exit_with_2(saguaro, arguments, part):
    result = saguaro(*arguments)
    assert result.exit_code == 2
    assert part in result.stderr
