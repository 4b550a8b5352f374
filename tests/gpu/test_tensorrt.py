"""TensorRT on a real GPU: engines are built and run, and their outputs compared with ONNX Runtime's.

Skipped with a reason where there is no module or device. ``python -m pytest tests/gpu`` runs them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from ptqbridge.backends.tensorrt.run import missing_device, missing_module
from ptqbridge.backends.tensorrt.version import detect, generation
from ptqbridge.cli import main

MISSING = "; ".join(text for text in (missing_module(), missing_device()) if text)
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(MISSING), reason=MISSING or "here")]
SHORT = ("--duration=0.2", "--warmUp=20", "--iterations=10")

Run = Callable[..., dict[str, Any]]


@pytest.fixture
def trt(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Build and run the example model with these options; the record, with outputs beside it."""
    monkeypatch.chdir(tmp_path)
    np.random.default_rng(5).normal(size=(1, 3, 28, 28)).astype(np.float32).tofile("x.bin")
    model = root / "examples" / "mynet" / "mynet.onnx"

    def go(*words: str) -> dict[str, Any]:
        words = (f"--onnx={model}", *SHORT, "--loadInputs=input1:x.bin", "--exportOutput=y.json", *words)
        status = main(["trtexec", "--target=trt", "--json", *words])
        answer = capsys.readouterr()
        assert status == 0, answer.err
        record: dict[str, Any] = json.loads(answer.out)
        record["values"] = np.array(json.loads(Path("y.json").read_text())[0]["values"], np.float32)
        return record

    return go


@pytest.fixture
def expected(root: Path, trt: Run) -> Any:
    session = onnxruntime.InferenceSession(root / "examples" / "mynet" / "mynet.onnx")
    return session.run(None, {"input1": np.fromfile("x.bin", np.float32).reshape(1, 3, 28, 28)})[0].ravel()


def cosine(one: Any, other: Any) -> float:
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--useCudaGraph", "--noDataTransfers", "--useSpinWait"),
        ("--infStreams=2", "--threads"),
        ("--exposeDMA", "--useManagedMemory"),
        ("--timingCacheFile=t.cache",),
        ("--fp16",),
    ],
)
def test_outputs_are_onnx_runtimes(words: tuple[str, ...], trt: Run, expected: Any) -> None:
    record = trt(*words)
    assert cosine(record["values"], expected) > 0.999
    assert record["run"]["performance"] is not None


def test_int8_from_our_calibration(root: Path, trt: Run, expected: Any) -> None:
    """A cache before TensorRT 11 (accepted by the builder, or it would have failed), Q/DQ nodes from 11 on."""
    record = trt("--int8", "--calibAlgo=max", f"--calibData={root}/examples/mynet/calib", "--out=o")
    assert cosine(record["values"], expected) > 0.99
    written = "model.edited.onnx" if generation(detect().version) == "11" else "calibration.cache"
    assert Path("o", written).is_file()


def test_a_profile_and_layers(trt: Run) -> None:
    record = trt("--dumpProfile", "--separateProfileRun", "--dumpLayerInfo", "--profilingVerbosity=detailed")
    assert record["run"]["profile"]["layers"] and record["run"]["layer_info"]["Layers"]


def test_a_broken_engine_is_an_error_and_no_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("m.engine").write_bytes(b"ftrt" + bytes(100))
    assert main(["run", "--target=trt", "--loadEngine=m.engine"]) == 3
