"""What a tuning run has found so far: kept after every step, so that an interrupted run goes on where it was."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from saguaro.engine.replace import replace_text
from saguaro.errors import ConfigError

VERSION = 7


@dataclass
class Report:
    """One JSON file. `key` says for what it holds; one for something else is begun anew."""

    file: Path
    key: str
    values: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def open(cls, file: Path, *about: object) -> Report:
        """Raises ConfigError when the file is there and is no report, or can't be written."""
        key = hashlib.sha256(repr((VERSION, about)).encode()).hexdigest()
        report = cls(file, key)
        if not file.parent.is_dir():
            raise ConfigError(f"{file.parent}: no such directory; make it, or name another file for the report")
        if file.exists():
            try:
                values = json.loads(file.read_text(encoding="utf-8"))
                found = values["key"]
            except (OSError, ValueError, TypeError, KeyError) as error:
                raise ConfigError(f"{file}: holds no tuning report; remove it, or name another file") from error
            if found == key:
                report.values = values
        return report

    def get(self, *names: str) -> Any:
        """What was noted under these names; None where nothing was."""
        value: Any = self.values
        for name in names:
            value = value.get(name) if isinstance(value, dict) else None
        return value

    def note(self, value: Any, *names: str) -> None:
        inner = self.values
        for name in names[:-1]:
            inner = inner.setdefault(name, {})
        inner[names[-1]] = value
        self.save()

    def save(self) -> None:
        try:
            replace_text(self.file, json.dumps({"key": self.key, **self.values}, indent=1) + "\n")
        except OSError as error:
            raise ConfigError(f"{self.file}: cannot be written ({error.strerror}); name another file") from error
