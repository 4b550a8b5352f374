"""Reading a model file: what is refused and in which words, and what a good file gives."""

from __future__ import annotations

import hashlib
import io
import time
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from ptqbridge.errors import InputError
from ptqbridge.model import load
from ptqbridge.model.load import load_model
from ptqbridge.model.save import save_model
from ptqbridge.spec.tensor import TensorSpec

OPSET_BYTES = 6
"""A field of 2 + 4 bytes: tag, length, then domain "" (tag, length 0) and version 13 (tag, value)."""


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_model(path)
    assert "\n" not in caught.value.message
    assert path.name in caught.value.message
    return caught.value.message


def test_good_model(saved: Path, tiny: onnx.ModelProto) -> None:
    model = load_model(str(saved))
    assert model.inputs == (TensorSpec("input", "float32", ("batch", 4)),)
    assert model.outputs == (TensorSpec("output", "float32", ("batch", 300)),)
    assert model.opset == 13
    assert model.sha256 == hashlib.sha256(saved.read_bytes()).hexdigest()
    assert model.proto == tiny
    assert model.external_files == ()


def test_missing(tmp_path: Path) -> None:
    assert "does not exist" in refusal(tmp_path / "no.onnx")
    assert "does not exist" in refusal(tmp_path / "no" / "no.onnx")


def test_folder(tmp_path: Path) -> None:
    assert "is a folder" in refusal(tmp_path)


def test_below_a_file(saved: Path) -> None:
    assert "cannot be read" in refusal(saved / "model.onnx")


def test_empty(tmp_path: Path) -> None:
    path = tmp_path / "empty.onnx"
    path.touch()
    assert "is empty (0 bytes)" in refusal(path)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.9, 0.999])
def test_truncated(saved: Path, share: float) -> None:
    data = saved.read_bytes()
    saved.write_bytes(data[: int(len(data) * share)])
    assert "truncated" in refusal(saved)


def test_truncated_says_how_much_is_missing(saved: Path) -> None:
    # The file ends with the opset; cutting that and 100 bytes leaves the graph 100 bytes short.
    data = saved.read_bytes()
    kept = len(data) - OPSET_BYTES - 100
    saved.write_bytes(data[:kept])
    assert f"{kept} bytes found, at least 100 more expected" in refusal(saved)


@given(cut=st.integers(min_value=1, max_value=5400), noise=st.binary(max_size=40))
def test_no_damage_gives_a_traceback(cut: int, noise: bytes) -> None:
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])],
        [numpy_helper.from_array(np.arange(1300, dtype=np.float32), "w")],
    )
    data = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
    damaged = data[:cut] + noise
    path = Path("damaged.onnx")
    try:
        proto = load._parse(path, damaged)
    except InputError as error:
        assert "damaged.onnx" in error.message
    else:
        assert proto.HasField("graph")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"hello, I am no model at all\n" * 9, "not an ONNX"),
        (b"\x93NUMPY\x01\x00" + b"\0" * 99, "a NumPy array"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 99, "a PNG image"),
        (b"ftrt" + b"\0" * 99, "a TensorRT engine"),
        (b"ptrt" + b"\0" * 99, "a TensorRT engine"),
        (b"\x1c\0\0\0TFL3" + b"\0" * 99, "a TensorFlow Lite model"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"\xff" * 50, "not an ONNX"),
        (b"\x08\x08", "holds no graph"),
    ],
)
def test_other_formats(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "other.onnx"
    path.write_bytes(data)
    assert words in refusal(path)


def test_archive(tmp_path: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("data.pkl", "x")
    path = tmp_path / "model.pt"
    path.write_bytes(archive.getvalue())
    assert "a zip archive" in refusal(path)


def test_without_opset(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-OPSET_BYTES])  # cut exactly between two fields: protobuf sees nothing wrong
    assert "states no opset" in refusal(saved)


def test_too_large(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "PROTOBUF_LIMIT", 1000)
    assert "cannot exceed 1000" in refusal(saved)


def test_external_data_are_read_late_and_hashed(tiny: onnx.ModelProto, tmp_path: Path) -> None:
    path, data = save_model(tiny, tmp_path / "big.onnx", inline_limit=100)
    model = load_model(path)
    assert model.external_files == (data,)
    assert {tensor.data_location for tensor in model.structure.graph.initializer} == {TensorProto.EXTERNAL}
    assert model.inputs[0].shape == ("batch", 4)
    before = model.sha256
    for found, expected in zip(model.proto.graph.initializer, tiny.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(found), numpy_helper.to_array(expected))
    content = bytearray(data.read_bytes())
    content[0] ^= 1
    data.write_bytes(content)
    assert load_model(path).sha256 != before


def test_large_model_loads_quickly(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.zeros((5000, 5000), np.float32), "weight")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weight"], ["y"])],
        "large",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 5000])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [weight],
    )
    path = tmp_path / "large.onnx"
    path.write_bytes(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString()
    )
    import onnxruntime  # noqa: F401 - its import is not the loading

    started = time.process_time()
    model = load_model(path)
    assert model.outputs == (TensorSpec("y", "float32", (1, 5000)),)
    assert time.process_time() - started < 1.0  # 100 MB: a quarter of a second, with room for a slow machine
