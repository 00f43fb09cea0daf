from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from saguaro import build
from saguaro.cli import main
from tests.support.checkpoints import make_checkpoint, noisy_copy

Saguaro = Callable[..., Result]


@pytest.fixture(scope="session")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory that holds a random `target` and a `draft` which often agrees with it."""
    directory = tmp_path_factory.mktemp("pair")
    make_checkpoint(directory / "target", max_position_embeddings=4096)
    noisy_copy(directory / "target", directory / "draft", 0.03)
    return directory


@pytest.fixture(scope="session")
def engine(pair: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(
        target=str(pair / "target"),
        draft=str(pair / "draft"),
        output=tmp_path_factory.mktemp("engines") / "pair",
        max_seq_len=4096,
        max_batch_size=1,
        lookahead=3,
        budget=6,
        enforce_eager=True,
    )


@pytest.fixture
def saguaro() -> Saguaro:
    """Run the command line in this process; an exception that it lets through fails the test."""

    def run(*arguments: object, **options: object) -> Result:
        result = CliRunner().invoke(main, [str(argument) for argument in arguments], **options)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return run


@pytest.fixture
def refused(saguaro: Saguaro) -> Callable[..., str]:
    """Run what must be refused: exit code 2, nothing on standard output, one sentence with all `parts`."""

    def run(parts: list[object], *arguments: object, **options: object) -> str:
        result = saguaro(*arguments, **options)
        assert result.exit_code == 2, result.output
        assert result.stdout == ""
        *usage, sentence = result.stderr.strip().splitlines()
        assert sentence.startswith("Error: ")
        assert all(line.startswith(("Usage:", "Try", "  ")) or not line for line in usage)
        for part in parts:
            assert str(part) in sentence
        return sentence

    return run
