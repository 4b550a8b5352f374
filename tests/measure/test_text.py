"""Numbers as C++ streams write them."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptqbridge.measure.text import dimensions, json_number, json_string, number


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1234567, "0.123457"),
        (3, "3"),
        (1e6, "1e+06"),
        (123456.7, "123457"),
        (1e-5, "1e-05"),
        (-0.5, "-0.5"),
        (math.inf, "inf"),
    ],
)
def test_six_significant_digits(value: float, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize("value", [None, math.nan, math.inf, -math.inf])
def test_what_json_cannot_hold_is_null(value: float | None) -> None:
    assert json_number(value) == "null"


@given(st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300))
def test_json_numbers_are_json_and_near(value: float) -> None:
    assert json.loads(json_number(value)) == pytest.approx(value, rel=1e-5)


@given(st.text())
def test_json_strings_are_json(text: str) -> None:
    assert json.loads(json_string(text)) == text


def test_dimensions() -> None:
    assert dimensions([1, 3, 28]) == "1x3x28" and dimensions(()) == ""
