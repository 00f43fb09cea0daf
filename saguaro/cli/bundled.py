"""Where the demo pair is: beside the package, in a clone of the repository."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from saguaro.engine.manifest import Manifest

ROOT = Path(__file__).resolve().parents[2]


def demo_directory() -> Path | None:
    """`examples/demo`, or None where the package was installed without the repository."""
    directory = ROOT / "examples" / "demo"
    return directory if (directory / "target" / "config.json").is_file() else None


def own_prompts(manifest: Manifest) -> Path:
    """The prompts that come with the engine's target. Raises a usage error: only the demo pair has some."""
    demo = demo_directory()
    if demo is None or Path(manifest.target.source).resolve() != (demo / "target").resolve():
        raise click.UsageError("name a file of prompts (only the demo pair has its own): --prompts F")
    return demo / "prompts.jsonl"
