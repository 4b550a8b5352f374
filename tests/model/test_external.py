"""External data: nothing outside the model's folder is opened, nothing short or missing goes unnoticed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

from ptqbridge.errors import InputError
from ptqbridge.model.external import tensor_bytes
from ptqbridge.model.load import load_model


@pytest.fixture
def outside(tiny: onnx.ModelProto, tmp_path: Path) -> Path:
    """A model in ``home/`` whose weight lies in ``home/weights.bin`` (offset 16)."""
    home = tmp_path / "home"
    home.mkdir()
    tensor = tiny.graph.initializer[0]
    (home / "weights.bin").write_bytes(b"\0" * 16 + tensor.raw_data)
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "weights.bin"), ("offset", "16"), ("length", "4800")):
        tensor.external_data.add(key=key, value=value)
    return write(tiny, home)


def write(proto: onnx.ModelProto, home: Path) -> Path:
    path = home / "model.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def change(path: Path, key: str, value: str) -> None:
    proto = onnx.load(path, load_external_data=False)
    for entry in proto.graph.initializer[0].external_data:
        if entry.key == key:
            entry.value = value
    path.write_bytes(proto.SerializeToString())


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_model(path)
    assert "\n" not in caught.value.message
    assert "'weight'" in caught.value.message
    return caught.value.message


def test_read(outside: Path) -> None:
    weight = load_model(outside).proto.graph.initializer[0]
    np.testing.assert_array_equal(
        numpy_helper.to_array(weight), np.linspace(-1, 1, 1200, dtype=np.float32).reshape(4, 300)
    )
    assert weight.data_location == TensorProto.DEFAULT
    assert not weight.external_data


def test_missing(outside: Path) -> None:
    (outside.parent / "weights.bin").unlink()
    assert "does not exist" in refusal(outside)


def test_too_short(outside: Path) -> None:
    (outside.parent / "weights.bin").write_bytes(b"\0" * 4815)
    assert "is too short" in refusal(outside)
    assert "4816, found 4815" in refusal(outside)


@pytest.mark.parametrize(
    "location", ["../secret.bin", "/etc/hostname", "a/../../secret.bin", "..\\secret.bin", "C:\\secret.bin", "", "a\0b"]
)
def test_escapes_are_refused(outside: Path, location: str) -> None:
    (outside.parent.parent / "secret.bin").write_bytes(b"\0" * 5000)
    change(outside, "location", location)
    assert "outside the model's folder; refused" in refusal(outside)


def test_link_to_the_outside_is_refused(outside: Path) -> None:
    secret = outside.parent.parent / "secret.bin"
    secret.write_bytes(b"\0" * 5000)
    (outside.parent / "weights.bin").unlink()
    (outside.parent / "weights.bin").symlink_to(secret)
    assert "refused" in refusal(outside)


def test_cache_of_links_is_fine(outside: Path, tmp_path: Path) -> None:
    links = tmp_path / "snapshot"
    links.mkdir()
    for file in outside.parent.iterdir():
        (links / file.name).symlink_to(file)
    model = load_model(links / "model.onnx")
    assert len(model.proto.graph.initializer[0].raw_data) == 4800


def test_data_in_a_subfolder(outside: Path) -> None:
    (outside.parent / "data").mkdir()
    (outside.parent / "weights.bin").rename(outside.parent / "data" / "weights.bin")
    change(outside, "location", "data/weights.bin")
    assert len(load_model(outside).proto.graph.initializer[0].raw_data) == 4800


@pytest.mark.parametrize(("key", "value"), [("length", "4000"), ("offset", "-1"), ("offset", "many")])
def test_nonsense_entries(outside: Path, key: str, value: str) -> None:
    change(outside, key, value)
    refusal(outside)


def test_file_changed_after_the_check(outside: Path) -> None:
    model = load_model(outside)
    (outside.parent / "weights.bin").write_bytes(b"short")
    with pytest.raises(InputError, match="too short"):
        _ = model.proto


def test_short_tensor_inside_the_model(tiny: onnx.ModelProto, tmp_path: Path) -> None:
    tiny.graph.initializer[0].raw_data = tiny.graph.initializer[0].raw_data[:-4]
    message = refusal(write(tiny, tmp_path))
    assert "corrupt" in message
    assert "needs 4800 bytes, found 4796" in message


def test_bytes_of_types() -> None:
    for name, size in (("FLOAT", 12), ("INT64", 24), ("FLOAT16", 6), ("BOOL", 3), ("BFLOAT16", 6), ("DOUBLE", 24)):
        tensor = TensorProto(data_type=TensorProto.DataType.Value(name), dims=[3])
        assert tensor_bytes(tensor) == size, name
    assert tensor_bytes(TensorProto(data_type=TensorProto.STRING, dims=[3])) is None
    assert tensor_bytes(TensorProto(data_type=TensorProto.FLOAT)) == 4
