"""What the model file tells, and the notes when it tells nothing."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ptqbridge.backends.horizon.lookup import Network, loaded, look_up, network_of
from ptqbridge.spec import ModelFile


def test_the_example_model(root: Path) -> None:
    network, note = look_up(ModelFile(str(root / "examples/mynet/mynet.onnx"), "onnx"))
    assert note == "" and network is not None
    assert [spec.text() for spec in network.inputs] == ["input1: float32[1,3,28,28]"]
    assert network.opset == 11 and "/fc/Gemm" in network.nodes


def test_missing_and_broken_files_are_notes(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"\x08")
    for path, words in (
        (tmp_path / "none.onnx", "was not found"),
        (broken, "broken.onnx"),
        (tmp_path, "was not found"),
    ):
        network, note = look_up(ModelFile(str(path), "onnx"))
        assert network is None
        assert words in note and note.endswith("were not checked")
    assert look_up(ModelFile("net.caffemodel", "caffe")) == (None, "")


def test_a_model_is_parsed_once_until_it_changes(root: Path, tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    shutil.copy(root / "examples/mynet/mynet.onnx", path)
    first = loaded(str(path))
    assert loaded(str(path)) is first
    assert not network_of(first).qdq
    shutil.copy(root / "examples/mynet/mynet_dynamic.onnx", path)
    os.utime(path, ns=(1, 1))
    assert loaded(str(path)).inputs[0].is_dynamic


def test_patterns() -> None:
    network = Network((), frozenset({"/a/Conv", "/b/Conv", "/b/Relu", "x*y"}), 11, 6)
    found, missing = network.match(["/b/*", "*/Conv", "/a/Conv", "/a", "*z*", "."])
    assert found == {"/b/*": ("/b/Conv", "/b/Relu"), "*/Conv": ("/a/Conv", "/b/Conv"), "/a/Conv": ("/a/Conv",)}
    assert missing == ("/a", "*z*", ".")
