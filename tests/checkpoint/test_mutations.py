"""2,000 seeded mutations of weights, config.json and index: an error or a correct load, in bounded memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).with_name("mutate_checkpoints.py")


@pytest.mark.parametrize(("kind", "count"), [("header", 667), ("config", 667), ("index", 666)])
def test_mutations(kind: str, count: int) -> None:
    result = subprocess.run(
        [sys.executable, str(SCRIPT), kind, str(count), "20260"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    summary = json.loads(result.stdout)
    assert summary["refused"] + summary["loaded"] == count
    # Both sides must really occur, or the mutations are too crude or too timid to show anything.
    assert summary["refused"] > count // 3
    assert summary["loaded"] > 5
    assert summary["growth"] < 500 * 2**20
