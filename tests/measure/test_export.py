"""The exported files: exact text, valid JSON whatever the values, and what NVIDIA's readers look up in them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ptqbridge.errors import InputError
from ptqbridge.measure.export import (
    dump_raw_bindings,
    export_layer_info,
    export_output,
    export_profile,
    export_times,
    layer_info_lines,
    output_lines,
    output_text,
    profile_lines,
    profile_text,
    raw_file_name,
    times_text,
)
from ptqbridge.measure.trace import Trace

MakeTrace = Callable[..., Trace]
STAMPS = [
    "startEnqMs",
    "endEnqMs",
    "startH2dMs",
    "endH2dMs",
    "startComputeMs",
    "endComputeMs",
    "startD2hMs",
    "endD2hMs",
]
FIELDS = [*STAMPS, "h2dMs", "computeMs", "d2hMs", "latencyMs"]
LAYERS = [("conv1", [1.0, 3.0, 2.0]), ("cut", [0.0, 0.0, 0.0]), ("fc", [0.5, 0.5, 1.0])]


def test_times_golden(full_trace: MakeTrace) -> None:
    assert times_text(full_trace([0, 1234.5678], compute=[2, 2.5])) == (
        '[\n  { "startEnqMs" : 0.4375, "endEnqMs" : 0.5625, "startH2dMs" : 0, "endH2dMs" : 0.5, '
        '"startComputeMs" : 0.5, "endComputeMs" : 2.5, "startD2hMs" : 2.5, "endD2hMs" : 2.75, '
        '"h2dMs" : 0.5, "computeMs" : 2, "d2hMs" : 0.25, "latencyMs" : 2.75 }\n'
        ', { "startEnqMs" : 1235.01, "endEnqMs" : 1235.13, "startH2dMs" : 1234.57, "endH2dMs" : 1235.07, '
        '"startComputeMs" : 1235.07, "endComputeMs" : 1237.57, "startD2hMs" : 1237.57, "endD2hMs" : 1237.82, '
        '"h2dMs" : 0.5, "computeMs" : 2.5, "d2hMs" : 0.25, "latencyMs" : 3.25 }\n]\n'
    )


def test_times_of_a_device_without_copies_are_null_not_zero(compute_trace: MakeTrace, tmp_path: Path) -> None:
    export_times(tmp_path / "t.json", compute_trace([1, 4]))
    rows = json.loads((tmp_path / "t.json").read_text())
    assert [list(row) for row in rows] == [FIELDS, FIELDS]
    assert rows[0] == {**dict.fromkeys(FIELDS), "startComputeMs": 1, "endComputeMs": 3, "computeMs": 2, "latencyMs": 2}
    # what NVIDIA's readers take: tracer.py's metrics as far as they are ours, trt-engine-explorer's latency
    assert all(float(row[key]) >= 0 for row in rows for key in ("startComputeMs", "endComputeMs", "computeMs"))
    assert [row["latencyMs"] for row in rows] == [2, 2]


def test_times_of_nothing_is_an_empty_array(compute_trace: MakeTrace) -> None:
    assert json.loads(times_text(compute_trace([]))) == []


def test_profile_table_golden() -> None:
    assert profile_lines(LAYERS, 3) == [
        "",
        "=== Profile (3 iterations ) ===",
        "   Time(ms)     Avg.(ms)   Median(ms)   Time(%)   Layer",
        "       6.00       2.0000       2.0000      75.0   conv1",
        "       2.00       0.6667       0.5000      25.0   fc",
        "       8.00       2.6667       3.0000     100.0   Total",
        "",
    ]


def test_profile_table_of_nothing() -> None:
    assert profile_lines([], 0)[1:3] == [
        "=== Profile (0 iterations ) ===",
        "   Time(ms)     Avg.(ms)   Median(ms)   Time(%)   Layer",
    ]


def test_profile_json_golden(tmp_path: Path) -> None:
    export_profile(tmp_path / "p.json", LAYERS, 3)
    text = (tmp_path / "p.json").read_text()
    assert text.startswith(
        '[\n  { "count" : 3 }\n'
        ', { "name" : "conv1", "timeMs" : 6, "averageMs" : 2, "medianMs" : 2, "percentage" : 75 }\n'
        ', { "name" : "cut", "timeMs" : 0, "averageMs" : 0, "medianMs" : 0, "percentage" : 0 }\n'
    )
    head, *rows = json.loads(text)
    assert head["count"] == 3
    # trt-engine-explorer keeps the records with 4 or 5 fields; profiler.py sums all but the name
    assert all(len(row) == 5 and isinstance(row["name"], str) for row in rows)
    assert sum(row["percentage"] for row in rows) == pytest.approx(100)


def test_profile_names_are_escaped_and_may_repeat() -> None:
    head, *rows = json.loads(profile_text([('a"b\\', [1.0]), ('a"b\\', [2.0])], 1))
    assert [row["name"] for row in rows] == ['a"b\\', 'a"b\\'] and head == {"count": 1}


def test_profile_of_layers_that_took_no_time_has_null_shares() -> None:
    _, row, never = json.loads(profile_text([("a", [0.0]), ("never", [])], 1))
    assert row["percentage"] is None and row["timeMs"] == 0
    assert never["averageMs"] is None


def test_outputs_golden(tmp_path: Path) -> None:
    outputs = {"prob": np.array([[0.5, 1 / 3], [np.nan, -np.inf]], dtype=np.float32), "n": np.array([7, -1])}
    assert output_lines(outputs) == ["Output Tensors:", "prob: (2x2)", "0.5 0.333333 nan -inf", "n: (2)", "7 -1"]
    export_output(tmp_path / "o.json", outputs)
    assert (tmp_path / "o.json").read_text() == (
        '[\n  { "name" : "prob"\n  , "dimensions" : "2x2"\n  , "values" : [ 0.5, 0.333333, null, null ]\n  }\n'
        ', { "name" : "n"\n  , "dimensions" : "2"\n  , "values" : [ 7, -1 ]\n  }\n]\n'
    )


@pytest.mark.parametrize(
    ("array", "values"),
    [
        (np.array([True, False]), [1, 0]),
        (np.array([200, 3], dtype=np.uint8), [200, 3]),
        (np.array([2**40], dtype=np.int64), [2**40]),
        (np.array([0.5], dtype=np.float16), [0.5]),
        (np.array(2.5, dtype=np.float32), [2.5]),
        (np.array(["a", 'b"'], dtype=object), ["a", 'b"']),
        (np.zeros((0, 3), dtype=np.float32), []),
    ],
)
def test_values_of_every_kind(array: Any, values: list[object]) -> None:
    (entry,) = json.loads(output_text({"x": array}))
    assert entry["values"] == values and entry["dimensions"] == "x".join(map(str, array.shape))


@given(hnp.arrays(np.float32, hnp.array_shapes(max_dims=3, max_side=4)), st.text())
def test_outputs_can_be_read_back(array: Any, name: str) -> None:
    (entry,) = json.loads(output_text({name: array}))
    shape = [int(size) for size in entry["dimensions"].split("x")]
    values = np.array([np.nan if value is None else value for value in entry["values"]]).reshape(shape)
    expected = np.where(np.isfinite(array), array, np.nan).astype(np.float64)
    assert entry["name"] == name
    np.testing.assert_allclose(values, expected, rtol=1e-5)


def test_values_are_in_logical_order_whatever_the_strides() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3).T
    (entry,) = json.loads(output_text({"x": array}))
    assert entry["values"] == [0, 3, 1, 4, 2, 5] and entry["dimensions"] == "3x2"


@pytest.mark.parametrize(
    ("name", "is_input", "array", "file"),
    [
        ("in/a:0", True, np.zeros((1, 3), np.float32), "in_a_0.input.1.3.Float.raw"),
        ("p._-,9", False, np.zeros(2, np.int8), "p._-,9.output.2.Int8.raw"),
        ("ö", False, np.zeros((), np.float16), "__.output..Half.raw"),
        ("x", True, np.zeros(1, np.int64), "x.input.1.Int64.raw"),
        ("x", True, np.zeros(1, bool), "x.input.1.Bool.raw"),
        ("x", True, np.zeros(1, np.uint8), "x.input.1.UInt8.raw"),
        ("x", True, np.zeros(1, np.int32), "x.input.1.Int32.raw"),
    ],
)
def test_raw_file_names(name: str, is_input: bool, array: Any, file: str) -> None:
    assert raw_file_name(name, is_input, array) == file


def test_raw_files_hold_the_bytes_and_never_overwrite_each_other(tmp_path: Path) -> None:
    inputs = {"a/b": np.arange(3, dtype=np.float32), "a:b": np.ones(3, dtype=np.float32)}
    outputs = {"y": np.arange(6, dtype=np.int32).reshape(2, 3).T}
    lines = dump_raw_bindings(inputs, outputs, tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "a_b.input.3.Float.raw",
        "a_b_2.input.3.Float.raw",
        "y.output.3.2.Int32.raw",
    ]
    stored = np.fromfile(tmp_path / "y.output.3.2.Int32.raw", dtype=np.int32)
    assert stored.tolist() == [0, 3, 1, 4, 2, 5]
    assert lines[0] == "Dumping I/O Bindings to RAW Files:"
    assert lines[-1] == (
        "Writing file for output binding y (with datatype Int32 and dimensions 3.2) to y.output.3.2.Int32.raw"
    )


def test_layer_info(tmp_path: Path) -> None:
    layers = [{"Name": "conv", "LayerType": "Conv", "Inputs": [], "Outputs": []}]
    export_layer_info(tmp_path / "l.json", layers, ["x", "y"])
    read = json.loads((tmp_path / "l.json").read_text())
    assert read == {"Layers": layers, "Bindings": ["x", "y"]}
    assert layer_info_lines(["conv", {"Name": "fc", "Outputs": [1]}], ["x"]) == [
        "Layer Information:",
        "Layers:\nconv\nName: fc, Outputs: [1]\n\nBindings:\nx",
    ]


def test_a_file_that_cannot_be_written_is_an_error(compute_trace: MakeTrace, tmp_path: Path) -> None:
    missing = tmp_path / "no"
    for write in (
        lambda: export_times(missing / "t.json", compute_trace([1])),
        lambda: export_profile(missing / "p.json", LAYERS, 3),
        lambda: export_output(missing / "o.json", {}),
        lambda: export_layer_info(missing / "l.json", [], []),
        lambda: dump_raw_bindings({"x": np.zeros(1)}, {}, missing),
    ):
        with pytest.raises(InputError, match=r"cannot write .*its folder does not exist"):
            write()
