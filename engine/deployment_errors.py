"""Pydantic's findings about a deployment as one sentence: field, value, what was expected, what to do."""

from __future__ import annotations

import difflib
import json
import reprlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

# Names that users know from elsewhere, or from the paper, and that this release does not have.
UNAVAILABLE = {
    ("build", "backend"): ("tensorrt-llm",),
}

_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxstring, _SHORT.maxother = 2, 8, 80, 80


def problem(field: str | None = None, *, expected: str | None = None) -> PydanticCustomError:
    """What a validator raises: about `field` of its section, or about its own field; `expected` overrides the
    field's description."""
    return PydanticCustomError("deployment", "invalid", {"field": field, "expected": expected})


Names = Mapping[tuple[str, ...], str]


def sentence(schema: type[BaseModel], error: ValidationError, names: Names | None = None) -> str:
    """The first finding as a sentence. `names`: what fields are called that were given as options."""
    first = error.errors(include_url=False)[0]
    path, value, context = [str(key) for key in first["loc"]], first["input"], first.get("ctx", {})
    if first["type"] == "extra_forbidden":
        return _unknown_key(schema, path)
    if first["type"] == "invalid_key":
        return f"the key {_dotted(path)} is not text; expected a name; correct it"
    if context.get("field"):  # what a section found about one of its fields
        path.append(context["field"])
        value = value[context["field"]] if isinstance(value, dict) else getattr(value, context["field"])
    if not path:
        found = "nothing in it" if value is None else f"{_shown(value)} in it"
        return f"there is {found}; expected a mapping with target and draft; see configs/demo.yaml"
    name = (names or {}).get(tuple(path), _dotted(path))
    field = _section(schema, path[:-1]).model_fields[path[-1]]
    own = context.get("expected") if first["type"] == "deployment" else None
    expected = own or field.description or ""
    if first["type"] == "missing":
        return f"{name} is missing; expected {expected}; add it"
    if value in UNAVAILABLE.get((path[0], path[-1]), ()):
        return f"{name} {value!r} is not available in this release; use {expected.removeprefix('one of ')}"
    advice = "correct it"
    if not own and (near := _nearest(value, _choices(field.annotation))):
        advice = f"did you mean {near!r}?"
    elif not field.is_required():
        default = field.get_default()
        advice += ", or leave it out"
        advice += "" if isinstance(default, BaseModel) else f" (default: {_plain(default)})"
    return f"{name} is {_shown(value)}; expected {expected}; {advice}"


def _unknown_key(schema: type[BaseModel], path: list[str]) -> str:
    """Suggests the key of the same section, else that of another, that comes nearest."""
    *parents, key = path
    here = list(_section(schema, parents).model_fields)
    elsewhere = {places[-1]: _dotted(places) for places in _all_paths(schema)}
    if near := _nearest(key, here):
        advice = f"did you mean {near!r}?"
    elif near := _nearest(key, list(elsewhere)):
        advice = f"did you mean {elsewhere[near]}?"
    else:
        advice = "remove it"
    return f"{_shown(_dotted(path))} is no known key; expected one of {', '.join(here)}; {advice}"


def _choices(annotation: Any) -> list[str]:
    """The texts of a Literal, or of those in a union."""
    texts: list[str] = []
    for argument in get_args(annotation):
        texts += [argument] if isinstance(argument, str) else _choices(argument)
    return texts


def _nearest(value: Any, names: list[str]) -> str | None:
    if not isinstance(value, str):
        return None
    near = difflib.get_close_matches(value[:80].lower(), names, n=1)
    return near[0] if near else None


def _section(schema: type[BaseModel], path: list[str]) -> type[BaseModel]:
    for key in path:
        annotation = schema.model_fields[key].annotation
        assert isinstance(annotation, type)
        assert issubclass(annotation, BaseModel)
        schema = annotation
    return schema


def _all_paths(schema: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, field in schema.model_fields.items():
        yield (*path, name)
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            yield from _all_paths(field.annotation, (*path, name))


def _shown(value: Any) -> str:
    """A value in a message, never pages of it."""
    try:
        return _SHORT.repr(value)
    except ValueError:  # Python does not print integers of more than 4300 digits
        return "a number of thousands of digits"


def _plain(value: Any) -> str:
    """As one would write it in the file."""
    return json.dumps(value).strip('"')


def _dotted(path: Iterable[str]) -> str:
    return ".".join(path)
