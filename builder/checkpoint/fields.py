"""Typed access to the fields of an untrusted JSON object, with one sentence for each way to be wrong."""

from __future__ import annotations

from typing import Any

from saguaro.builder.checkpoint.files import shown
from saguaro.errors import CheckpointError


class Fields:
    """A JSON object from the file `source`. Every method raises CheckpointError naming file, field and value.

    `prefix` is the path to this object inside the file, for instance "rope_scaling.".
    """

    def __init__(self, raw: dict[str, Any], source: str, prefix: str = "") -> None:
        self.raw = raw
        self.source = source
        self.prefix = prefix

    def wrong(self, key: str, expected: str, advice: str = "correct the file") -> CheckpointError:
        """The error for field `key`, ready to raise."""
        value = shown(self.raw[key]) if key in self.raw else "missing"
        field = f"{self.source}: `{self.prefix}{key}`"
        return CheckpointError(f"{field} is {value}, expected {expected}; {advice}")

    def integer(self, key: str, default: int | None, most: int) -> int:
        """An integer from 1 to `most`; `default` is taken when the field is absent."""
        value = self.raw.get(key, default)
        if type(value) is not int or not 1 <= value <= most:
            raise self.wrong(key, f"an integer from 1 to {most}")
        return value

    def optional_integer(self, key: str, default: int | None, most: int) -> int | None:
        """Like `integer`, but null and an absent field without default are None."""
        return None if self.raw.get(key, default) is None else self.integer(key, default, most)

    def number(self, key: str, default: float | None, most: float) -> float:
        """A finite number above 0 and at most `most`."""
        value = self.raw.get(key, default)
        # NaN fails the comparison, infinity the bound; an integer too long for a float never gets to float().
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
            raise self.wrong(key, f"a number above 0 and at most {most:g}")
        return float(value)

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.raw.get(key, default)
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def child(self, key: str) -> Fields | None:
        """The object under `key`; None when it is absent, null or empty."""
        value = self.raw.get(key)
        if value is not None and not isinstance(value, dict):
            raise self.wrong(key, "an object or null")
        return Fields(value, self.source, f"{self.prefix}{key}.") if value else None
