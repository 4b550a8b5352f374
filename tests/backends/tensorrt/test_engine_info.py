"""What ``info`` tells of an engine: all of it where it can be loaded, else the head and the reason."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptqbridge.backends.tensorrt import engine_info, run, version
from ptqbridge.report.artifact import describe

HEAD = b"ftrt" + bytes(20) + bytes((10, 13, 3, 9))


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "m.engine"
    path.write_bytes(HEAD + b"rest")
    return path


def test_everything_where_it_can_be_loaded(
    engine: Path, tensorrt: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tensorrt("10.13.3").ENGINE = "shaped"
    monkeypatch.setattr(engine_info, "detect", lambda: version.Found("10.13.3", "installed"))
    found = describe(str(engine))
    assert found["tensorrt"] == "10.13.3.9"
    told = found["engine"]
    assert [(row["name"], row["mode"], row["dtype"], row["shape"]) for row in told["tensors"]] == [
        ("x", "input", "FLOAT", [-1, 4]),
        ("s", "input", "INT64", [2]),
        ("y", "output", "FLOAT", [-1, 4]),
    ]
    assert told["tensors"][1]["holds_a_shape"] and "kLINEAR" in told["tensors"][0]["format"]
    assert told["profiles"][1]["values"] == {"min": [1, 4], "opt": [2, 4], "max": [8, 4]}
    assert told["layers"] == ["conv1", "prob"] and told["loaded_with"] == "10.13.3" and told["gpu"] == "Stand-in GPU"


def test_layers_that_are_no_json_are_given_as_lines(tensorrt: Callable[..., Any]) -> None:
    api = tensorrt()
    api.INSPECTED = '{"Layers": ["a"b"]}\nend'
    assert engine_info.layers(api, api.ICudaEngine()) == ['{"Layers": ["a"b"]}', "end"]


def test_the_head_alone_where_it_cannot(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "missing_device", lambda: "looked for an NVIDIA GPU: the driver sees none")
    found = describe(str(engine))
    assert found["tensorrt"] == "10.13.3.9" and "engine" not in found
    assert any("the driver sees none" in note for note in found["notes"])


def test_an_engine_of_another_version(
    engine: Path, tensorrt: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tensorrt("8.6.1").FAIL.add("deserialize")
    monkeypatch.setattr(engine_info, "detect", lambda: version.Found("8.6.1", "installed"))
    assert any("magicTag mismatch" in note for note in describe(str(engine))["notes"])
