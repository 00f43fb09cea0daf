"""`statistics.json` in an engine directory: what the outcome policies learned, kept from one run to the next.

It may be there or not, and no hash covers it: output tokens never depend on it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from saguaro.engine.replace import replace_text
from saguaro.errors import EngineError

STATISTICS = "statistics.json"


def write_statistics(directory: Path, statistics: dict[str, Any]) -> None:
    """Raises EngineError when the directory cannot be written to."""
    try:
        replace_text(directory / STATISTICS, json.dumps(statistics) + "\n")
    except OSError as error:
        raise EngineError(
            f"{directory / STATISTICS}: cannot be written ({error.strerror}); check the directory"
        ) from error


def read_statistics(directory: Path) -> dict[str, Any]:
    """What was written last; empty where nothing was."""
    file = directory / STATISTICS
    try:
        values = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise EngineError(f"{file}: is damaged ({error}); remove it, and it is learned again") from error
    if not isinstance(values, dict):
        raise EngineError(f"{file}: holds no JSON object; remove it, and it is learned again")
    return values
