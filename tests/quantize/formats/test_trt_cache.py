"""TensorRT's cache: exact both ways, and every way in which a file can be wrong."""

from __future__ import annotations

import math
import re
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptqbridge.errors import InputError, OptionError
from ptqbridge.quantize.formats.trt_cache import (
    ALGORITHMS,
    TrtCache,
    bits_of,
    float_of,
    parse_cache,
    scale_bits,
    version_number,
    version_text,
)

HEADER = "TRT-8601-EntropyCalibration2\n"
NAMES = st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\n\r"), max_size=30)
BITS = st.integers(0, 0x7F7FFFFF)


def test_published_numbers() -> None:
    """amax 2.5, 6 and 0.001 as trtexec 8.6.1's own reader takes them; the usual line of an input in 0..1."""
    assert [f"{scale_bits(amax):x}" for amax in (2.5, 6.0, 0.001)] == ["3ca14285", "3d418306", "37041aa4"]
    cache = parse_cache(b"TRT-8601-EntropyCalibration2\nimages: 3c010a14\n(Unnamed Layer* 2) [Constant]_output: 0\n")
    assert (cache.number, cache.algorithm) == (8601, "EntropyCalibration2")
    assert cache.amax()["images"] == pytest.approx(1.000244, abs=1e-6)
    assert cache.amax()["(Unnamed Layer* 2) [Constant]_output"] == 0
    assert "of scale 0" in cache.notes[0]


@given(st.sampled_from(sorted(ALGORITHMS)), st.integers(4000, 999999), st.dictionaries(NAMES, BITS, min_size=1))
def test_round_trip_is_bit_exact(algorithm: str, number: int, bits: dict[str, int]) -> None:
    text = TrtCache(number, algorithm, bits).text()
    again = parse_cache(text.encode())
    assert again.text() == text
    assert list(again.bits.items()) == list(bits.items())
    assert {name: scale_bits(amax) for name, amax in again.amax().items()} == bits


@given(st.floats(127 * 2.0**-126, float_of(0x7F7FFFFF), width=32))
def test_amax_survives_within_one_float32_step(amax: float) -> None:
    back = 127.0 * float_of(scale_bits(amax))
    step = math.ldexp(1.0, math.frexp(amax)[1] - 24)
    assert abs(back - amax) <= step


@given(st.dictionaries(NAMES, BITS, min_size=1))
def test_windows_line_ends_and_capitals_are_read(bits: dict[str, int]) -> None:
    text = TrtCache(8601, "MinMaxCalibration", bits).text()
    lines = [line.rpartition(":") for line in text.split("\n")[1:-1]]
    loud = "TRT-8601-MinMaxCalibration\r\n" + "".join(f"{name}:{hexes.upper()}\r\n" for name, _, hexes in lines)
    cache = parse_cache(loud.encode())
    assert dict(cache.bits) == bits
    assert any("CR LF" in note for note in cache.notes)


def test_colons_belong_to_names() -> None:
    assert parse_cache(f"{HEADER}onnx::Conv_329: 3c010a14\n".encode()).bits == {"onnx::Conv_329": 0x3C010A14}


def test_the_last_line_may_lack_its_end_and_blank_lines_may_follow() -> None:
    assert len(parse_cache(f"{HEADER}a: 3c010a14".encode()).bits) == 1
    assert len(parse_cache(f"{HEADER}a: 3c010a14\n\n\n".encode()).bits) == 1


def test_scales_below_the_normal_range_are_noted() -> None:
    assert "damaged?" in parse_cache(f"{HEADER}a: 3c01\n".encode()).notes[0]


@pytest.mark.parametrize(
    ("content", "line", "words"),
    [
        (b"", 1, "found nothing"),
        (b"\n\n", 1, "found nothing"),
        (b"TRT-8601-Entropy", 1, "'Entropy' (cut off?)"),
        (b"TRT-86", 1, "cut off?"),
        (b"TRT-8601-FancyCalibration\na: 3c010a14\n", 1, "FancyCalibration"),
        (b"input 0.5\n", 1, "header such as TRT-8601"),
        (b"\xef\xbb\xbfTRT-8601-EntropyCalibration2\na: 3c010a14\n", 1, "header such as"),
        (HEADER.encode(), 2, "nothing after the header"),
        (f"{HEADER}a: 3c010a14\nb\n".encode(), 3, "'tensor name: hex'"),
        (f"{HEADER}a: 3c010a14\nb: 3c0".encode(), 3, "cut off"),
        (f"{HEADER}a: 3c010a14\nb:".encode(), 3, "cut off"),
        (f"{HEADER}a: 3c010a14\nfeatu".encode(), 3, "cut off"),
        (f"{HEADER}a: 3c010a14\n\nb: 3c010a14\n".encode(), 3, "'tensor name: hex'"),
        (f"{HEADER}a:3c010a14\n".encode(), 2, "space after the last colon"),
        (f"{HEADER}a:  3c010a14\n".encode(), 2, "hex digits"),
        (f"{HEADER}a: \n".encode(), 2, "hex digits"),
        (f"{HEADER}a: 0x3c010a\n".encode(), 2, "hex digits"),
        (f"{HEADER}a: 3c010a14f\n".encode(), 2, "hex digits"),
        (f"{HEADER}a: bc010a14\n".encode(), 2, "sign bit"),
        (f"{HEADER}a: 7f800000\n".encode(), 2, "infinity"),
        (f"{HEADER}a: 7fc00000\n".encode(), 2, "NaN"),
        (f"{HEADER}a: 3c010a14\nb: 3c010a14\na: 3c010a15\n".encode(), 4, "also in line 2"),
        (f"{HEADER}a: 3c010a14\n".encode() + b"\xff: 3c010a14\n", 3, "UTF-8"),
    ],
)
def test_a_wrong_file_is_one_line_with_its_number(content: bytes, line: int, words: str) -> None:
    with pytest.raises(InputError, match=re.escape(words)) as caught:
        parse_cache(content)
    assert caught.value.message.startswith(f"line {line}: expected ")
    assert "\n" not in caught.value.message


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(content: bytes) -> None:
    for data in (content, HEADER.encode() + content):
        try:
            cache = parse_cache(data)
        except InputError as error:
            assert error.message.startswith("line ")
        else:
            assert all(bits < 0x7F800000 for bits in cache.bits.values())


@given(st.dictionaries(NAMES, BITS, min_size=2, max_size=4), st.data())
def test_a_cut_file_is_refused_unless_the_cut_is_between_lines(bits: dict[str, int], data: st.DataObject) -> None:
    whole = TrtCache(8601, "EntropyCalibration2", bits).text().encode()
    part = whole[: data.draw(st.integers(0, len(whole) - 1))]
    try:
        kept = parse_cache(part).bits
    except InputError:
        return
    assert all(bits[name] == value for name, value in kept.items())


@pytest.mark.parametrize(
    ("version", "number"),
    [("8.6.1", 8601), ("8.6", 8600), ("8.6.1.6", 8601), ("7.2.3", 7203), ("10.13.3", 101303), ("10.0.1", 100001)],
)
def test_version_numbers(version: str, number: int) -> None:
    assert version_number(version) == number
    assert version_number(str(number)) == number
    assert version.startswith(version_text(number)) or version_text(number) == f"{version}.0"


@pytest.mark.parametrize("version", ["", "8", "x.y", "8.60.1", "11.0", "11.1.2", "1.0", "8,6,1", "110000"])
def test_wrong_versions(version: str) -> None:
    with pytest.raises(OptionError, match="--trtVersion"):
        version_number(version)


@given(st.floats(width=32, allow_nan=False))
def test_bits_are_those_of_struct(value: float) -> None:
    assert struct.pack(">I", bits_of(value)) == struct.pack(">f", value)
    assert float_of(bits_of(value)) == value
