"""A memory cap splits the tensors into groups, and changes no range; memory is given back."""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import parser

from ptqbridge.errors import InputError, OptionError
from ptqbridge.quantize.calibrate import calibrate, memory_estimate
from ptqbridge.quantize.memory import Estimate, forget_bytes, give_back

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


@pytest.mark.parametrize("algorithm", ["max", "percentile", "entropy2", "kl"])
def test_groups_under_a_cap_change_nothing(
    proto: onnx.ModelProto, samples: list[dict[str, np.ndarray]], algorithm: str, tmp_path: Path
) -> None:
    whole = memory_estimate(proto, TENSORS, samples, algorithm=algorithm, workers=2)
    assert whole.unknown == 0
    cap = whole.fixed + max(2 * 3 * 8 * 8 * 4 * 2, 1)
    seen: list[int] = []
    capped = calibrate(
        proto, TENSORS, samples, algorithm=algorithm, workers=2, memory_cap=cap, progress=seen.append,
        checkpoint=tmp_path / "state.npz",
    )  # fmt: skip
    assert capped == calibrate(proto, TENSORS, samples, algorithm=algorithm)
    assert seen[-1] == len(samples)
    assert seen == sorted(seen)
    assert len(seen) == (150 if algorithm == "max" else 300)


def test_cap_too_small_for_one_tensor(proto: onnx.ModelProto, samples: list[dict[str, np.ndarray]]) -> None:
    with pytest.raises(OptionError, match=r"memory cap: expected at least 1 MiB .* found 0 MiB"):
        calibrate(proto, TENSORS, samples, algorithm="entropy2", memory_cap=100)


def test_estimate_counts_what_is_held(proto: onnx.ModelProto, samples: list[dict[str, np.ndarray]]) -> None:
    one = 3 * 8 * 8 * 4
    found = memory_estimate(proto, TENSORS, samples, algorithm="entropy2", workers=2)
    assert found == Estimate(fixed=4 * proto.ByteSize() + 2 * 3 * one, held=2 * 4 * one, unknown=0)
    assert memory_estimate(proto, TENSORS, samples, algorithm="max", workers=2).held == 0
    with pytest.raises(InputError, match="at least one sample"):
        memory_estimate(proto, TENSORS, [], algorithm="max")


def test_memory_is_given_back_where_the_system_can(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []

    def library(name: str | None) -> SimpleNamespace:
        asked.append(name)
        return SimpleNamespace(malloc_trim=asked.append)

    def no_library(name: str | None) -> None:
        asked.append("no library")
        raise OSError(name)

    monkeypatch.setattr(ctypes, "CDLL", library)
    give_back()
    monkeypatch.setattr(ctypes, "CDLL", no_library)
    give_back()
    assert asked == [None, 0, "no library"]


def test_a_session_works_without_the_bytes_it_was_made_of(
    proto: onnx.ModelProto, samples: list[dict[str, np.ndarray]]
) -> None:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    expected = session.run(None, samples[0])[0]
    forget_bytes(session)
    assert not session._model_bytes
    np.testing.assert_array_equal(session.run(None, samples[0])[0], expected)
    forget_bytes(object())
