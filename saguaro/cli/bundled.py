"""Where the demo pair is: beside the package, in a clone of the repository."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def demo_directory() -> Path | None:
    """`examples/demo`, or None where the package was installed without the repository."""
    directory = ROOT / "examples" / "demo"
    return directory if (directory / "target" / "config.json").is_file() else None
