"""What a request may ask for: a value out of range is a RequestError that names field and value."""

from __future__ import annotations

import math

import pytest

from saguaro import SamplingParams
from saguaro.errors import InputError, RequestError

BAD: list[tuple[str, object]] = [
    *[("max_tokens", value) for value in (0, -1, 1.0, "16", None, True)],
    *[("temperature", value) for value in (-0.1, math.nan, math.inf, "1", None, True)],
    *[("top_p", value) for value in (0, -0.5, 1.01, math.nan, "0.9", None, False)],
    *[("top_k", value) for value in (-2, 1.5, "3", None, True)],
    *[("min_p", value) for value in (-0.1, 1.1, math.nan, "0", None)],
    *[("seed", value) for value in (-1, 2**64, 0.5, "7", True)],
    *[("n", value) for value in (0, -1, 1.5, None)],
    *[("logprobs", value) for value in (-1, 1.5, "5", True)],
    *[("stop", value) for value in ("", ["a", ""], ["a", 5], [None])],
    *[("stop_token_ids", value) for value in ([1.5], ["a"], [True], [None])],
]
UNTIDY: list[tuple[str, object]] = [("stop", 5), ("stop_token_ids", 5), ("ignore_eos", "no")]


def refused(field: str, value: object) -> None:
    with pytest.raises(RequestError) as caught:
        SamplingParams(**{field: value})  # type: ignore[arg-type]
    sentence = str(caught.value)
    assert sentence.startswith(f"{field} is ")
    assert repr(value)[:20] in sentence
    assert "expected" in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(("field", "value"), BAD)
def test_out_of_range(field: str, value: object) -> None:
    refused(field, value)


@pytest.mark.parametrize(("field", "value"), UNTIDY)
def test_of_another_type(field: str, value: object) -> None:
    refused(field, value)


def test_the_error_is_bad_input() -> None:
    """The command line exits with 2 on it, and Python code may catch ValueError."""
    assert issubclass(RequestError, InputError)
    assert issubclass(RequestError, ValueError)


def test_the_ends_of_the_ranges() -> None:
    for values in (
        {"temperature": 0},
        {"temperature": 1e6},
        {"top_p": 1},
        {"top_p": 1e-9},
        {"top_k": -1},
        {"top_k": 10**9},
        {"min_p": 0},
        {"min_p": 1},
        {"seed": 0},
        {"seed": 2**64 - 1},
        {"logprobs": 0},
        {"stop": []},
        {"stop_token_ids": []},
    ):
        params = SamplingParams(**values)  # type: ignore[arg-type]
        for field, value in values.items():
            assert getattr(params, field) == value


def test_stop_strings_as_a_list() -> None:
    assert SamplingParams().stop_strings == []
    assert SamplingParams(stop="ab").stop_strings == ["ab"]
    assert SamplingParams(stop=["ab", "c"]).stop_strings == ["ab", "c"]
