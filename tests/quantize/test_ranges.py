"""ranges.json: what is written reads back the same, and what is wrong is named."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptqbridge.errors import InputError
from ptqbridge.quantize.ranges import Ranges, TensorRange

finite = st.floats(allow_nan=False, allow_infinity=False)
tensor_ranges = st.tuples(finite, finite, st.text()).map(lambda t: TensorRange(min(t[:2]), max(t[:2]), t[2]))


@given(st.dictionaries(st.text(), tensor_ranges), st.integers(0, 10**9), st.text())
def test_json_round_trip(tensors: dict[str, TensorRange], samples: int, text: str) -> None:
    ranges = Ranges("max", "tensorrt", samples, text, text, {"numpy": text}, tensors, {"percentile": 99.99})
    assert Ranges.from_json(ranges.to_json()) == ranges


def test_amax_is_the_largest_magnitude() -> None:
    assert TensorRange(-3.0, 2.0, "max").amax == 3.0
    assert TensorRange(-1.0, 2.0, "max").amax == 2.0


def test_amax_alone_is_symmetric() -> None:
    ranges = Ranges.from_json('{"method": "max", "tensors": {"a": {"amax": 2}}}')
    assert ranges.tensors["a"] == TensorRange(-2.0, 2.0, "max")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "expected JSON"),
        ("[]", "the document: expected an object, found list"),
        ("{}", "tensors: expected an object, found NoneType"),
        ('{"tensors": {"a": {}}}', "expected min and max, or amax; found nothing"),
        ('{"tensors": {"a": {"min": 1, "max": 0}}}', "expected min <= max"),
        ('{"tensors": {"a": {"amax": NaN}}}', "expected a finite number"),
        ('{"tensors": {"a": {"amax": true}}}', "expected a finite number"),
        ('{"tensors": {"a": {"amax": -1}}}', "expected min <= max"),
        ('{"tensors": {"a": {"amax": 1}, "a": {"amax": 2}}}', "the key 'a' twice"),
        ('{"tensors": {}, "samples": -1}', "expected a count"),
        ('{"tensors": {}, "method": 3}', "method: expected text"),
    ],
)
def test_wrong_text_is_one_clear_line(text: str, words: str) -> None:
    with pytest.raises(InputError, match="ranges: ") as caught:
        Ranges.from_json(text)
    assert words in caught.value.message
    assert "\n" not in caught.value.message


def test_layout_of_the_file() -> None:
    ranges = Ranges("max", "horizon", 2, "d", "m", {}, {"x": TensorRange(-1.0, 0.5, "max")})
    document = json.loads(ranges.to_json())
    assert document["fingerprint"] == {"data": "d", "model": "m"}
    assert document["tensors"] == {"x": {"min": -1.0, "max": 0.5, "method": "max"}}
