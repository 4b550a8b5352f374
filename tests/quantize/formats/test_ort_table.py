"""The tables of ONNX Runtime's TensorRT provider, against the functions of onnxruntime that write and read them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnxruntime.quantization import quant_utils
from onnxruntime.quantization.CalTableFlatBuffers.TrtTable import TrtTable

from ptqbridge.errors import InputError
from ptqbridge.quantize.formats import Form, read_ranges, render, write_ranges
from ptqbridge.quantize.formats.ort_table import from_flat, is_plain, render_table
from ptqbridge.quantize.ranges import Ranges, TensorRange

ENDS = {"relu:0": (0.0, 6.0), "in put": (-1.5, 2.5), "dead": (0.0, 0.0)}


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The three files that onnxruntime itself writes."""
    monkeypatch.chdir(tmp_path)
    try:
        quant_utils.write_calibration_table(ENDS)  # 1.16
    except AttributeError:
        from onnxruntime.quantization.calibrate import TensorData

        table = {name: TensorData(lowest=np.float32(a), highest=np.float32(b)) for name, (a, b) in ENDS.items()}
        quant_utils.write_calibration_table(table)
    return tmp_path


def test_what_onnxruntime_writes_is_read(theirs: Path) -> None:
    flat, text = read_ranges(theirs / "calibration.flatbuffers"), read_ranges(theirs / "calibration.cache")
    assert (flat.form, text.form) == (Form.ORT_FLAT, Form.ORT_TEXT)
    for loaded in (flat, text):
        assert {name: found.amax for name, found in loaded.ranges.tensors.items()} == {
            "relu:0": 6.0,
            "in put": 2.5,
            "dead": 0.0,
        }
        assert "not the largest magnitude" in loaded.notes[0]
    assert json.loads((theirs / "calibration.json").read_text()).keys() == ENDS.keys()


def test_onnxruntime_reads_what_is_written(ranges: Ranges, tmp_path: Path) -> None:
    written = write_ranges(ranges, str(tmp_path / "x.flatbuffers"), Form.ORT_FLAT)
    table = TrtTable.GetRootAs((tmp_path / "x.flatbuffers").read_bytes(), 0)
    entries = [table.Dict(index) for index in range(table.DictLength())]
    assert {entry.Key(): entry.Value() for entry in entries} == {b"dead": b"0.0", b"input": b"2.125", b"relu:0": b"6.0"}
    assert [loss.what for loss in written.losses] == ["asymmetry", "provenance"]


@pytest.mark.parametrize("ending", [".flatbuffers", ".ort.cache"])
@given(
    amaxes=st.dictionaries(
        st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp")), min_size=1).filter(is_plain),
        st.floats(0, 1e30),
    ).filter(bool)
)
def test_there_and_back_is_exact(
    tmp_path_factory: pytest.TempPathFactory, ending: str, amaxes: dict[str, float]
) -> None:
    tensors = {name: TensorRange(-amax if amax else 0.0, amax, "") for name, amax in amaxes.items()}
    path = tmp_path_factory.getbasetemp() / f"x{ending}"
    form = Form.ORT_FLAT if ending == ".flatbuffers" else Form.ORT_TEXT
    path.write_bytes(data if isinstance(data := render_table(tensors, form), bytes) else data.encode())
    loaded = read_ranges(path)
    assert loaded.form is form
    assert loaded.ranges.tensors == dict(sorted(tensors.items()))


@given(st.data())
def test_damaged_tables_are_one_line(data: st.DataObject) -> None:
    whole = bytearray(render_table({"a": TensorRange(-1, 1, ""), "bc": TensorRange(0, 2, "")}, Form.ORT_FLAT))
    for place in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=4)):
        whole[place] = data.draw(st.integers(0, 255))
    cut = bytes(whole[: data.draw(st.integers(0, len(whole)))])
    try:
        found = from_flat(cut)
    except InputError as error:
        assert "\n" not in error.message
    else:
        assert found.tensors


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("a 1.5\nb\n", "line 2: expected a magnitude of 0 or more for '', found 'b'"),
        ("a 1.5\nb -2\n", "line 2: expected a magnitude of 0 or more for 'b', found '-2'"),
        ("a 1.5\nb nan\n", "line 2: expected a magnitude of 0 or more for 'b', found 'nan'"),
        ("a 1.5\na 1.5\n", "line 2: expected each tensor once, found 'a' again"),
    ],
)
def test_wrong_text_is_named(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "x.cache").write_text(text)
    with pytest.raises(InputError) as caught:
        read_ranges(tmp_path / "x.cache")
    assert caught.value.message.endswith(reason)


def test_other_binary_files_are_refused(tmp_path: Path) -> None:
    for content in (b"\x00" * 64, b"\x10\x00\x00\x00" + b"\xff" * 60, bytes(range(256))):
        (tmp_path / "x.flatbuffers").write_bytes(content)
        with pytest.raises(InputError, match="binary file"):
            read_ranges(tmp_path / "x.flatbuffers")


def test_a_name_that_a_line_cannot_hold_is_left_out() -> None:
    tensors = {"a\nb": TensorRange(-1, 1, ""), "": TensorRange(-1, 1, ""), "c": TensorRange(-1, 1, "")}
    written = render(Ranges("", "", 0, "", "", {}, tensors), Form.ORT_TEXT)
    assert written.text == "c 1.0\n"
    assert written.losses[0].what == "names" and written.losses[0].count == 2
