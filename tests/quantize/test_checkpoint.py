"""Interrupted calibrations go on where they were, with the result of an uninterrupted one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from ptqbridge.errors import InputError
from ptqbridge.quantize.calibrate import ALGORITHMS, calibrate, memory_estimate

TENSORS = ["x", "a", "b", "c", "out"]


@pytest.fixture(scope="module")
def proto() -> onnx.ModelProto:
    return parser.parse_model(
        """<ir_version: 8, opset_import: ["": 13]> g (float[n,3,8,8] x) => (float[n,3,8,8] out) {
          a = Tanh(x)
          b = Neg(a)
          c = Relu(b)
          out = Mul(c, x)
        }"""
    )


@pytest.fixture(scope="module")
def samples() -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    return [{"x": random.standard_t(3, size=(1, 3, 8, 8)).astype(np.float32)} for _ in range(150)]


def stop_at(position: int) -> Callable[[int], None]:
    def progress(done: int) -> None:
        if done == position:
            raise KeyboardInterrupt

    return progress


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("workers", [1, 2])
def test_resumed_equals_uninterrupted(
    proto: onnx.ModelProto, samples: list[dict[str, np.ndarray]], algorithm: str, workers: int, tmp_path: Path
) -> None:
    file = tmp_path / "state.npz"
    for position in (5, 70, 140):
        with pytest.raises(KeyboardInterrupt):
            calibrate(
                proto, TENSORS, samples, algorithm=algorithm, workers=workers, checkpoint=file,
                progress=stop_at(position),
            )  # fmt: skip
        assert file.exists() == (position > 64)
    seen: list[int] = []
    resumed = calibrate(proto, TENSORS, samples, algorithm=algorithm, checkpoint=file, progress=seen.append)
    assert seen[0] == 129
    assert resumed == calibrate(proto, TENSORS, samples, algorithm=algorithm)
    assert not file.exists()


def test_interruption_between_groups(
    proto: onnx.ModelProto, samples: list[dict[str, np.ndarray]], tmp_path: Path
) -> None:
    file = tmp_path / "state.npz"
    cap = memory_estimate(proto, TENSORS, samples, algorithm="entropy2", workers=1).fixed + 3 * 8 * 8 * 4
    settings = {"algorithm": "entropy2", "workers": 1, "memory_cap": cap, "checkpoint": file}
    with pytest.raises(KeyboardInterrupt):
        calibrate(proto, TENSORS, samples, progress=stop_at(60), **settings)  # type: ignore[arg-type]
    seen: list[int] = []
    resumed = calibrate(proto, TENSORS, samples, progress=seen.append, **settings)  # type: ignore[arg-type]
    assert seen[0] > 37
    assert resumed == calibrate(proto, TENSORS, samples, algorithm="entropy2")


def test_checkpoint_of_another_calibration(
    proto: onnx.ModelProto, samples: list[dict[str, np.ndarray]], tmp_path: Path
) -> None:
    file = tmp_path / "state.npz"
    with pytest.raises(KeyboardInterrupt):
        calibrate(
            proto, TENSORS, samples, algorithm="max", checkpoint=file, model_fingerprint="m", progress=stop_at(100)
        )
    for change, key in (
        ({"algorithm": "minmax"}, "method"),
        ({"model_fingerprint": "other"}, "model"),
        ({"data_fingerprint": "d"}, "data"),
    ):
        settings = {"algorithm": "max", "model_fingerprint": "m", **change}
        with pytest.raises(InputError, match=f"belongs to another calibration: its {key} differs"):
            calibrate(proto, TENSORS, samples, checkpoint=file, **settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 broken"])
def test_damaged_checkpoint(
    proto: onnx.ModelProto, samples: list[dict[str, np.ndarray]], content: bytes, tmp_path: Path
) -> None:
    file = tmp_path / "state.npz"
    file.write_bytes(content)
    with pytest.raises(InputError, match="expected a calibration checkpoint"):
        calibrate(proto, TENSORS, samples, algorithm="max", checkpoint=file)
    np.savez(file, about=np.zeros(3, np.uint8))
    with pytest.raises(InputError, match="expected a calibration checkpoint"):
        calibrate(proto, TENSORS, samples, algorithm="max", checkpoint=file)
