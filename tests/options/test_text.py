"""Splitting and number reading, against plain ports of the C++ loops and the C library itself."""

from __future__ import annotations

import ctypes
import ctypes.util
import errno
import math
import sys
from collections.abc import Callable

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ptqbridge.options.text import GrammarError, dimensions, integer, name_and_value, number, split

NUMBER_LIKE = st.text("0123456789+-.eExXpPaAfFinIN_() \t\nGM,", max_size=12)
NAME_LIKE = st.text("ab:',x1 ", max_size=12)


def cpp_split(text: str, separator: str) -> list[str]:
    """A port of ``splitToStringVec`` (NVIDIA/TensorRT samples/common/sampleUtils.cpp, v8.6.1)."""
    parts = []
    start = 0
    while start < len(text):
        end = text.find(separator, start)
        end = len(text) if end < 0 else end
        parts.append(text[start:end])
        start = end + 1
    return parts


def cpp_name_and_value(text: str) -> tuple[str, str] | None:
    """A port of ``splitNameAndValue`` (sampleOptions.cpp, v8.6.1); None where it throws."""
    quoted = cpp_split(text, "'")
    if len(quoted) != 1:
        return None if len(quoted) != 3 or not quoted[2] else (quoted[0] + quoted[1], quoted[2][1:])
    parts = cpp_split(text, ":")
    name = parts[0]
    for part in parts[1:-1]:
        name += ":" + part
    return name, parts[-1]


def cpp_stoi(text: str) -> tuple[int, str] | None:
    """``std::stoi`` as value and unread rest; None where it throws."""
    body = text.lstrip(" \t\n\v\f\r")
    sign = body[:1] if body[:1] in ("+", "-") else ""
    digits = ""
    for letter in body[len(sign) :]:
        if letter not in "0123456789":
            break
        digits += letter
    value = int(sign + (digits.lstrip("0")[:11] or "0"))
    if not digits or not -(2**31) <= value < 2**31:
        return None
    return value, body[len(sign) + len(digits) :]


@given(st.text("ab,:x'", max_size=20), st.sampled_from(",:x'"))
@example("", ",")
@example(",", ",")
@example("a,,b,", ",")
def test_split_is_the_cpp_loop(text: str, separator: str) -> None:
    assert split(text, separator) == cpp_split(text, separator)


@given(NAME_LIKE)
@example("")
@example("''")
@example("'a'")
@example("a:b:")
def test_name_and_value_is_the_cpp_function(text: str) -> None:
    expected = cpp_name_and_value(text) if text else None
    if expected is None:
        with pytest.raises(GrammarError, match="quotes"):
            name_and_value(text)
    else:
        assert name_and_value(text) == expected


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("a:1", "a", "1"),
        ("a:0:1", "a:0", "1"),
        ("a", "a", "a"),
        ("a:", "a", "a"),
        ("a::", "a", ""),
        (":", "", ""),
        ("'a:0':1", "a:0", "1"),
        ("a'b':1", "ab", "1"),
        ("'a'x1", "a", "1"),
        ("'a':", "a", ""),
    ],
)
def test_name_and_value_cases(text: str, name: str, value: str) -> None:
    assert name_and_value(text) == (name, value)


@given(NUMBER_LIKE | st.text(max_size=5))
@example("2147483648")
@example("-2147483648")
@example("\u0665")
@example("\x1c1")
@example("0" * 5000 + "7")
@example("9" * 5000)
def test_integer_is_stoi_without_a_tail(text: str) -> None:
    expected = cpp_stoi(text)
    try:
        value = integer(text)
    except GrammarError as error:
        assert (error.difference == "number-tail") == (expected is not None)
        assert expected is None or expected[1].strip()
    else:
        assert expected is not None
        assert value == expected[0]
        assert not expected[1].strip()


@pytest.mark.parametrize("text", ["1e3", "1.9", "0x10", "1,2", "10abc", "1 2", "1_000"])
def test_integer_tail_names_its_row(text: str) -> None:
    with pytest.raises(GrammarError, match="left over") as caught:
        integer(text)
    assert caught.value.difference == "number-tail"


def c_reader(
    name: str, kind: type[ctypes.c_float] | type[ctypes.c_double]
) -> Callable[[str], tuple[float, str] | None]:
    """``stof`` or ``stod`` through the C function that C++ calls; None where it throws."""
    function = getattr(ctypes.CDLL(ctypes.util.find_library("c"), use_errno=True), name)
    function.restype = kind
    function.argtypes = [ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p)]

    def read(text: str) -> tuple[float, str] | None:
        end = ctypes.c_char_p()
        ctypes.set_errno(0)
        raw = text.encode()
        value = float(function(raw, ctypes.byref(end)))
        rest = end.value or b""
        if rest == raw or ctypes.get_errno() == errno.ERANGE:
            return None
        return value, rest.decode()

    return read


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="compares with the GNU C library")
@pytest.mark.parametrize("double", [False, True], ids=["stof", "stod"])
@given(NUMBER_LIKE)
@example("1e39")
@example("3.4028235e38")
@example("3.4028236e38")
@example("1e-46")
@example("0e-99999")
@example("1e400")
@example("1e-400")
@example("0x1.8p1")
@example("0x1p9999")
@example("0x.p1")
@example("1e+")
@example("nan(1)")
@example("-infinity")
@example("infin")
def test_number_is_the_c_function_without_a_tail(double: bool, text: str) -> None:
    read = c_reader("strtod", ctypes.c_double) if double else c_reader("strtof", ctypes.c_float)
    expected = read(text)
    try:
        value = number(text, double=double)
    except GrammarError as error:
        assert bool(error.difference) == (expected is not None), expected
        assert expected is None or expected[1].strip() or math.isnan(expected[0])
    else:
        assert expected is not None
        assert not expected[1].strip()
        assert value == expected[0] if double or math.isinf(value) else math.isclose(value, expected[0], rel_tol=1e-7)


@given(st.floats(allow_nan=False, allow_infinity=False, allow_subnormal=False))
def test_number_reads_what_python_writes(value: float) -> None:
    assert number(repr(value), double=True) == value


def test_nan_names_its_row() -> None:
    with pytest.raises(GrammarError) as caught:
        number("nan")
    assert caught.value.difference == "nan"


@given(st.lists(st.integers(-(2**31), 2**31 - 1), max_size=9))
def test_dimensions_round_trip(dims: list[int]) -> None:
    assert dimensions("x".join(map(str, dims))) == tuple(dims)
