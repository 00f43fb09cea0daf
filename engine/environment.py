"""`${VAR}` and `${VAR:-default}` in a deployment file."""

from __future__ import annotations

import os
import re
from typing import Any

import yaml

_REFERENCE = re.compile(r"\$\{(?:(?P<name>[A-Za-z_]\w*)(?::-(?P<default>[^}]*))?\})?", re.ASCII)


class Substituted(str):
    """Text that came out of the environment, so that YAML never saw whether it is a number."""


def substitute(text: str) -> str:
    """`text` with its references replaced; as in a shell, the default also stands for an empty variable.

    Raises ValueError with a sentence's second half when a variable is not set or a reference is malformed.
    """
    if "${" not in text:
        return text
    return Substituted(_REFERENCE.sub(_value, text))


def _value(reference: re.Match[str]) -> str:
    name, default = reference["name"], reference["default"]
    if name is None:
        raise ValueError("'${' begins no reference; expected ${NAME} or ${NAME:-default}")
    value = os.environ.get(name)
    if default is not None:
        return value or default
    if value is None:
        raise ValueError(f"the environment variable {name} is not set; set it, or write ${{{name}:-default}}")
    return value


def plain_value(text: Substituted, *, as_text: bool) -> Any:
    """The string itself, or what YAML would have read had it stood in the file."""
    if as_text:
        return str(text)
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError):
        return str(text)
