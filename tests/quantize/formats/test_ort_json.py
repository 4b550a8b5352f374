"""ONNX Runtime's two JSON files: what its own package reads and writes, and broken ones."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptqbridge.errors import InputError
from ptqbridge.quantize.formats.forms import Form
from ptqbridge.quantize.formats.ort_json import form_of_json, from_json, to_json
from ptqbridge.quantize.ranges import Ranges, TensorRange

ORT = pytest.importorskip("onnxruntime.quantization.calibrate")
FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
TENSORS = st.dictionaries(st.text(st.characters(blacklist_categories=("Cs",))), st.tuples(FLOATS, FLOATS), min_size=1)


def of(pairs: dict[str, tuple[float, float]], method: str = "max") -> Ranges:
    """Ranges with these ends."""
    tensors = {name: TensorRange(min(ends), max(ends), method) for name, ends in pairs.items()}
    return Ranges(method, "onnxruntime", 0, "", "", {}, tensors)


@given(TENSORS, st.sampled_from([Form.ORT_CACHE, Form.ORT_TABLE]))
def test_round_trip(pairs: dict[str, tuple[float, float]], form: Form) -> None:
    ranges = of(pairs)
    text, losses = to_json(ranges, form)
    document = json.loads(text)
    assert form_of_json(document) is form
    again, lost = from_json(document)
    assert {n: (r.min, r.max) for n, r in again.tensors.items()} == {
        n: (r.min, r.max) for n, r in ranges.tensors.items()
    }
    assert losses == lost == []


@pytest.mark.parametrize(
    ("ours", "theirs"), [("max", "MinMax"), ("minmax", "MinMax"), ("percentile", "Percentile"), ("entropy", "Entropy")]
)
def test_method_words(ours: str, theirs: str) -> None:
    text, losses = to_json(of({"x": (0.0, 1.0)}, ours), Form.ORT_CACHE)
    assert json.loads(text)["calibration_method"] == {
        "CLS": "CalibrationMethod",
        "value": f"CalibrationMethod.{theirs}",
    }
    assert losses == []


def test_a_method_without_a_word_is_said() -> None:
    _, losses = to_json(of({"x": (0.0, 1.0)}, "entropy2"), Form.ORT_CACHE)
    assert [loss.what for loss in losses] == ["method_word"]
    assert "CalibrationMethod.Entropy" in losses[0].text


def test_rounding_and_overflow_are_said() -> None:
    text, losses = to_json(of({"x": (0.1, 1e300)}), Form.ORT_CACHE)
    assert [(loss.what, loss.count) for loss in losses] == [("rounding", 2)]
    assert math.isfinite(json.loads(text)["data"]["x"]["highest"]["data"])


@pytest.mark.skipif(not hasattr(ORT, "load_tensors_data"), reason="this onnxruntime has no calibration cache yet")
def test_onnxruntime_reads_ours_and_we_read_its_own(tmp_path: Path, ranges: Ranges) -> None:
    text, _ = to_json(ranges, Form.ORT_CACHE)
    (tmp_path / "ours.json").write_text(text, encoding="utf-8")
    theirs = ORT.load_tensors_data(tmp_path / "ours.json")
    assert theirs.calibration_method is ORT.CalibrationMethod.Percentile
    assert [float(end) for end in theirs["relu:0"].range_value] == [0.0, 6.0]
    ORT.save_tensors_data(theirs, tmp_path / "theirs.json")
    again, losses = from_json(json.loads((tmp_path / "theirs.json").read_text()))
    assert again.method == "percentile" and losses == []
    assert again.tensors["relu:0"] == TensorRange(0.0, 6.0, "percentile")


def test_ranges_per_channel_become_the_widest_and_it_is_said() -> None:
    entry = {
        "lowest": {"data": [-1.0, -3.0], "dtype": "float32", "CLS": "numpy.array"},
        "highest": {"data": [[2.0], [0.5]], "dtype": "float32", "CLS": "numpy.array"},
        "CLS": "TensorData",
    }
    ranges, losses = from_json({"x": entry, "y": [0, 1]})
    assert ranges.tensors["x"] == TensorRange(-3.0, 2.0, "")
    assert [(loss.what, loss.count) for loss in losses] == [("per_channel", 1)]


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"x": [1, 0]}, "lowest <= highest"),
        ({"x": [0, "1"]}, "finite numbers"),
        ({"x": [0, None]}, "finite numbers"),
        ({"x": [0, math.inf]}, "finite numbers"),
        ({"x": [[], 1]}, "finite numbers"),
        ({"x": {"CLS": "TensorData", "lowest": 0}}, "no highest"),
        ({"CLS": "TensorsData", "data": {}, "calibration_method": "MinMax"}, "at least one tensor"),
        ({"CLS": "TensorsData", "data": {"x": 3}, "calibration_method": "MinMax"}, r"\[min, max\]"),
        ({"CLS": "TensorsData", "data": {"x": [0, 1]}, "calibration_method": "Fancy"}, "'Fancy'"),
        ({"CLS": "TensorsData", "data": {"x": [0, 1]}, "calibration_method": "Distribution"}, "not ranges"),
    ],
)
def test_wrong_documents(document: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        from_json(document)


@pytest.mark.parametrize("document", [{}, [], 3, {"x": 1}, {"tensors": {}}, {"x": [1]}])
def test_other_json_is_neither(document: object) -> None:
    assert form_of_json(document) is None
