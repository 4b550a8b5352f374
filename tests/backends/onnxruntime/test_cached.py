"""--calib on the CPU: ranges from a TensorRT cache or ranges.json instead of samples."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from ptqbridge.cli import main

MYNET = Path(__file__).parents[3] / "examples/mynet"
Run = Callable[..., tuple[int, dict[str, Any]]]


@pytest.fixture
def ptq(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    monkeypatch.chdir(tmp_path)

    def call(*argv: str) -> tuple[int, dict[str, Any]]:
        status = main([*argv, "--json"])
        return status, json.loads(capsys.readouterr().out)

    return call


def calibrated(ptq: Run, out: str, scheme: str) -> None:
    status, answer = ptq(
        "calibrate", f"--onnx={MYNET}/mynet.onnx", f"--calibData={MYNET}/calib", "--calibAlgo=max",
        f"--scheme={scheme}", f"--out={out}",
    )  # fmt: skip
    assert status == 0, answer


def built(ptq: Run, *argv: str) -> dict[str, Any]:
    status, answer = ptq("build", f"--onnx={MYNET}/mynet.onnx", "--int8", "--saveEngine=m.onnx", *argv)
    assert status == 0, answer
    found: dict[str, Any] = answer["targets"]["cpu"]
    return found


def outputs(path: str) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    sample = np.load(MYNET / "test_small/sample.npy").astype(np.float32)
    found: np.ndarray = session.run(None, {session.get_inputs()[0].name: sample})[0]
    return found


def test_ranges_json_gives_the_model_that_the_samples_give(ptq: Run) -> None:
    calibrated(ptq, "ranges.json", "onnxruntime")
    built(ptq, "--calib=ranges.json")
    from_file = outputs("m.onnx")
    built(ptq, f"--calibData={MYNET}/calib", "--calibAlgo=max")
    np.testing.assert_array_equal(from_file, outputs("m.onnx"))


def test_a_tensorrt_cache_gives_a_calibrated_model(ptq: Run) -> None:
    calibrated(ptq, "mynet.cache", "tensorrt")
    answer = built(ptq, "--calib=mynet.cache")
    build = answer["build"]
    assert build["performance_only"] is None
    assert any(note.startswith("mynet.cache: ranges of ") for note in build["notes"])
    assert not any("stay float32 for want" in note for note in build["notes"])
    row = next(row for row in answer["verdicts"] if row["option"].startswith("--calib="))
    assert row["verdict"] == "approximate"
    quantized = outputs("m.onnx")
    status, _ = ptq("build", f"--onnx={MYNET}/mynet.onnx", "--saveEngine=f.onnx")
    exact = outputs("f.onnx")
    assert status == 0
    assert np.sum(exact * quantized) / (np.linalg.norm(exact) * np.linalg.norm(quantized)) > 0.999


def test_layers_without_a_range_stay_float(ptq: Run, tmp_path: Path) -> None:
    calibrated(ptq, "ranges.json", "onnxruntime")
    document = json.loads((tmp_path / "ranges.json").read_text())
    last = list(document["tensors"])[-1]
    del document["tensors"][last]
    (tmp_path / "less.json").write_text(json.dumps(document))
    answer = built(ptq, "--calib=less.json")
    assert any("stay float32 for want of a range" in note for note in answer["build"]["notes"])
    fewer = sum(node.op_type == "QuantizeLinear" for node in onnx.load("m.onnx").graph.node)
    built(ptq, "--calib=ranges.json")
    assert fewer < sum(node.op_type == "QuantizeLinear" for node in onnx.load("m.onnx").graph.node)


def test_a_cache_of_another_model_is_an_error(ptq: Run, tmp_path: Path) -> None:
    (tmp_path / "other.cache").write_text("TRT-8601-EntropyCalibration2\nzebra: 3c010a14\n")
    status, answer = ptq("build", f"--onnx={MYNET}/mynet.onnx", "--int8", "--calib=other.cache", "--saveEngine=m.onnx")
    assert status == 3
    assert "other.cache has no range for any layer of this model; it holds 1 tensor (first 'zebra')" in answer["error"]
    assert not (tmp_path / "m.onnx").exists()


def test_without_int8_a_cache_has_no_effect(ptq: Run, tmp_path: Path) -> None:
    calibrated(ptq, "mynet.cache", "tensorrt")
    status, answer = ptq("explain", "--target=cpu", "--", "--onnx=x.onnx", "--calib=mynet.cache")
    assert status == 0
    rows = json.dumps(answer)
    assert "no effect without --int8" in rows
