"""Files that change as a whole: written beside their place and moved there, so that nobody reads half of one."""

from __future__ import annotations

import os
from pathlib import Path


def replace_text(file: Path, text: str) -> None:
    """Put `text` (UTF-8) in the place of what `file` holds. Raises OSError, and then leaves everything as it was."""
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        os.replace(beside, file)
    finally:
        beside.unlink(missing_ok=True)
