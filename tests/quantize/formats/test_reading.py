"""Telling the forms apart by content, and files that are none of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ptqbridge.errors import InputError
from ptqbridge.quantize.formats import Form, read_ranges
from ptqbridge.quantize.ranges import Ranges, TensorRange


def test_the_content_counts_not_the_name(ranges: Ranges, tmp_path: Path) -> None:
    (tmp_path / "a.cache").write_text(ranges.to_json())
    (tmp_path / "b.json").write_text("TRT-8601-MinMaxCalibration\nx: 3c010a14\n")
    (tmp_path / "c.bin").write_text('{"x": [0, 1.5]}')
    assert read_ranges(tmp_path / "a.cache").form is Form.RANGES
    loaded = read_ranges(tmp_path / "b.json")
    assert (loaded.form, loaded.ranges.method, loaded.ranges.versions["tensorrt"]) == (Form.TRT_CACHE, "max", "8.6.1")
    assert read_ranges(tmp_path / "c.bin").form is Form.ORT_TABLE


def test_a_tensor_called_tensors_in_a_table(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text('{"tensors": [0, 1], "y": [0, 2]}')
    loaded = read_ranges(tmp_path / "t.json")
    assert loaded.form is Form.ORT_TABLE
    assert loaded.ranges.tensors["tensors"] == TensorRange(0, 1, "")


def test_amax_alone_means_symmetric(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_text('{"method": "max", "tensors": {"x": {"amax": 2}}}')
    assert read_ranges(tmp_path / "r.json").ranges.tensors["x"] == TensorRange(-2.0, 2.0, "max")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "found nothing"),
        (b"\x08\x07\x12\x00\x00onnx", "binary file"),
        (b"hello\n", "header such as"),
        (b'{"tensors": {"x": {"amax": 1', "cut off"),
        (b'{"x": [0, 1], "x": [0, 2]}', "twice"),
        (b'{"x": 3}', "other JSON"),
        (b"[1, 2]", "other JSON"),
        (b'{"tensors": {"x": {"min": 2, "max": 1}}}', "min <= max"),
        (b'{"x": [0, NaN]}', "finite"),
        (b'{"a\xff": 1}', "UTF-8"),
        (b"[" * 200_000, "nested too deep|expected JSON"),
    ],
)
def test_wrong_files_are_one_line_with_the_name(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.file"
    path.write_bytes(content)
    with pytest.raises(InputError, match=words) as caught:
        read_ranges(path)
    assert caught.value.message.startswith(f"{path}: ")
    assert "\n" not in caught.value.message


def test_folders_and_missing_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found a folder") as caught:
        read_ranges(tmp_path)
    assert "samples, not ranges" in caught.value.hint
    with pytest.raises(InputError, match="No such file"):
        read_ranges(tmp_path / "missing")


def test_json_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "r.json").write_bytes(b"\xef\xbb\xbf" + json.dumps({"tensors": {"x": {"amax": 1}}}).encode())
    assert read_ranges(tmp_path / "r.json").form is Form.RANGES
