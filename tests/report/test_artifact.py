"""What a file says of itself."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

from ptqbridge.errors import InputError, ToolchainMissing
from ptqbridge.report.artifact import KINDS, describe, text


def test_an_onnx_model(root: Path) -> None:
    path = root / "examples" / "mynet" / "mynet_dynamic.onnx"
    record = describe(str(path))
    assert record["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert record["opsets"] == {"ai.onnx": 11}
    assert record["inputs"] == ["input1: float32[batch,3,28,28]"]
    assert record["performance_only"] is None
    assert "  - output1: float32[batch,10]" in text(record).splitlines()


def test_our_stamp(root: Path, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(str(root / "examples" / "mynet" / "mynet.onnx"))
    for key, value in (("ptqbridge.precision", "int8"), ("ptqbridge.performance_only", "made up"), ("author", "x")):
        model.metadata_props.add(key=key, value=value)
    onnx.save(model, str(tmp_path / "m.onnx"))
    record = describe(str(tmp_path / "m.onnx"))
    assert (record["precision"], record["performance_only"]) == ("int8", "made up")
    assert record["ptqbridge"] == {"precision": "int8", "performance_only": "made up"}
    assert record["metadata"] == {"author": "x"}


@pytest.mark.parametrize("suffix", [".hbm", ".engine", ".plan"])
def test_closed_files_have_the_record_of_their_build(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    sealed = b"ptrt" + bytes(60)
    path.write_bytes(sealed)
    record = describe(str(path))
    assert (record["bytes"], "build" in record) == (64, False)
    assert ("is told by" if suffix == ".hbm" else "has an unknown form") in record["notes"][0]
    digest = hashlib.sha256(sealed).hexdigest()
    build = {"target": "nash-m", "precision": "int8", "facts": {}}
    (tmp_path / f"m{suffix}.json").write_text(json.dumps({"artifact_sha256": digest, "build": build}))
    assert describe(str(path))["build"] == build
    assert "  target: nash-m" in text(describe(str(path))).splitlines()
    path.write_bytes(sealed + b"another")
    assert "build" not in describe(str(path))


def test_a_bin_without_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PTQBRIDGE_HB_MAPPER", "/none")
    path = tmp_path / "m.bin"
    path.write_bytes(b"sealed")
    with pytest.raises(ToolchainMissing, match="hb_mapper was not found"):
        describe(str(path))
    digest = hashlib.sha256(b"sealed").hexdigest()
    (tmp_path / "m.bin.json").write_text(json.dumps({"artifact_sha256": digest, "build": {"target": "bayes"}}))
    assert "only the record of its build" in describe(str(path))["notes"][0]


def test_files_of_no_use(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        describe(str(tmp_path / "none.onnx"))
    with pytest.raises(InputError, match="a folder, expected a file"):
        describe(str(tmp_path))
    (tmp_path / "m.txt").write_text("x")
    with pytest.raises(InputError, match=r"expected a file that ends in \.onnx"):
        describe(str(tmp_path / "m.txt"))
    (tmp_path / "m.onnx").write_bytes(b"garbage that is no protobuf")
    with pytest.raises(InputError, match="is no ONNX model"):
        describe(str(tmp_path / "m.onnx"))


@pytest.mark.parametrize("suffix", KINDS)
def test_an_empty_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    path.touch()
    with pytest.raises(InputError, match=rf"{re.escape(str(path))}: expected a \S.*, found an empty file"):
        describe(str(path))


def test_an_engine_names_the_tensorrt_that_made_it(tmp_path: Path) -> None:
    engine = tmp_path / "m.engine"
    engine.write_bytes(b"ftrt" + bytes(20) + bytes([8, 6, 1, 6]))
    assert describe(str(engine))["tensorrt"] == "8.6.1.6"
    for content in (b"no engine", b"no engine" * 9, b"ftrt"):
        engine.write_bytes(content)
        with pytest.raises(InputError, match="expected a TensorRT engine"):
            describe(str(engine))
