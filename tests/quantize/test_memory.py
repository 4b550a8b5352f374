"""A memory cap splits the tensors into groups, and changes no range."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import parser

from ptqbridge.errors import InputError, OptionError
from ptqbridge.quantize.calibrate import calibrate, memory_estimate
from ptqbridge.quantize.memory import Estimate

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
