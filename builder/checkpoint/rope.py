"""The two spellings of RoPE in config.json: `rope_theta` with `rope_scaling`, and `rope_parameters`."""

from __future__ import annotations

from saguaro.builder.checkpoint.fields import Fields
from saguaro.models.config import RopeScaling

_OTHER = "choose another checkpoint"
_MAX_THETA = 1e15
_ORIGINAL = "original_max_position_embeddings"
_MAX_FACTOR = 1e6
_MAX_ORIGINAL = 2**26


def parse_rope(fields: Fields, max_positions: int) -> tuple[float, RopeScaling | None]:
    """(theta, scaling) as transformers would resolve them; `max_positions` is max_position_embeddings.

    Raises CheckpointError for a kind other than default, linear and llama3, and for bad numbers.
    """
    inner = fields.child("rope_scaling")  # transformers prefers it when both are there
    inner = inner or fields.child("rope_parameters")
    _refuse_partial(fields)
    where = inner if inner is not None and "rope_theta" in inner.raw else fields
    theta = where.number("rope_theta", 10000.0, _MAX_THETA)
    return theta, None if inner is None else _scaling(inner, fields, max_positions)


def _scaling(inner: Fields, outer: Fields, max_positions: int) -> RopeScaling | None:
    _refuse_partial(inner)
    for key, value in inner.raw.items():
        if isinstance(value, dict):
            raise inner.wrong(key, "no object, since RoPE that differs by layer is not supported", _OTHER)
    spelling = "rope_type" if "rope_type" in inner.raw else "type"
    kind = inner.raw.get(spelling, "default")
    if kind == "default":
        return None
    if kind == "linear":
        return RopeScaling(kind="linear", factor=inner.number("factor", None, _MAX_FACTOR))
    if kind == "llama3":
        return _llama3(inner, outer, max_positions)
    raise inner.wrong(spelling, "'default', 'linear' or 'llama3', the supported kinds of RoPE", _OTHER)


def _refuse_partial(fields: Fields) -> None:
    if fields.raw.get("partial_rotary_factor") not in (None, 1):
        raise fields.wrong("partial_rotary_factor", "1.0, since only whole heads are rotated", _OTHER)


def _llama3(inner: Fields, outer: Fields, max_positions: int) -> RopeScaling:
    # A value outside the block wins in transformers; with none anywhere, it takes max_position_embeddings.
    holder = outer if _ORIGINAL in outer.raw else inner
    scaling = RopeScaling(
        kind="llama3",
        factor=inner.number("factor", None, _MAX_FACTOR),
        low_freq_factor=inner.number("low_freq_factor", None, _MAX_FACTOR),
        high_freq_factor=inner.number("high_freq_factor", None, _MAX_FACTOR),
        original_max_position=holder.integer(_ORIGINAL, max_positions, _MAX_ORIGINAL),
    )
    if scaling.high_freq_factor <= scaling.low_freq_factor:
        raise inner.wrong("high_freq_factor", f"a number above low_freq_factor, {scaling.low_freq_factor:g}")
    return scaling
