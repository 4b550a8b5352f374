"""NaN in an observed tensor is found by every method, also where what comes after it swallows it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import parser

from ptqbridge.errors import InputError
from ptqbridge.quantize.calibrate import calibrate
from ptqbridge.quantize.health import places
from ptqbridge.quantize.sources import GraphFacts

TENSORS = ["x", "a", "out"]
ALGORITHMS = ["max", "minmax", "percentile", "entropy2", "entropy", "mse", "legacy", "kl", "default", "mix"]


def model(body: str, output: str = "float[N,C,H,W] out") -> onnx.ModelProto:
    return parser.parse_model(
        f"""<ir_version: 8, opset_import: ["": 13]> net (float[1,4,8,8] x) => ({output})
          <float zero = {{0}}, float six = {{6}}, int64[1] first = {{0}}> {{ {body} }}"""
    )


SWALLOWED = {
    "MaxPool": "a = Log(x) out = MaxPool<kernel_shape=[3,3], strides=[2,2], pads=[1,1,1,1]>(a)",
    "GlobalMaxPool": "a = Sqrt(x) out = GlobalMaxPool(a)",
    "ReduceMax": "a = Div(x, x) out = ReduceMax<axes=[2]>(a)",
    "Where": "a = Sqrt(x) n = IsNaN(a) out = Where(n, zero, a)",
    "Gather": "a = Sqrt(x) out = Gather<axis=1>(a, first)",
    "Erf": "a = Sqrt(x) out = Erf(a)",
    "Clip": "a = Sqrt(x) out = Clip(a, zero, six)",
    "Relu and MaxPool": "a = Log(x) b = Relu(a) out = MaxPool<kernel_shape=[8,8]>(b)",
    "nothing": "l = Log(x) i = Neg(l) z = Mul(i, zero) a = Add(z, x) out = Relu(a)",
}


@pytest.mark.parametrize("body", SWALLOWED.values(), ids=SWALLOWED)
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_nan_is_named_with_its_tensor(body: str, algorithm: str) -> None:
    """The third sample makes the only NaN, in the second channel: the root of -1, 0 / 0, or infinity * 0."""
    feeds = [np.random.default_rng(seed).uniform(0.5, 1, (1, 4, 8, 8)).astype(np.float32) for seed in range(4)]
    feeds[2][0, 1, 3, 5] = 0.0 if "Div" in body or "zero) a" in body else -1.0
    with pytest.raises(InputError, match=r"^sample 2: tensor 'a': expected finite values, found NaN$"):
        calibrate(model(body), TENSORS, [{"x": feed} for feed in feeds], algorithm=algorithm)


def test_a_sum_that_overflows_is_no_nan() -> None:
    """The finite values of the output add up to infinity minus infinity."""
    proto = model("a = Identity(x) out = Neg(a)")
    big = np.full((1, 4, 8, 8), 3e38, np.float32)
    big[:, ::2] *= -1
    found = calibrate(proto, ["out"], [{"x": big}], algorithm="max").tensors["out"]
    assert (found.min, found.max) == (pytest.approx(-3e38), pytest.approx(3e38))


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("a = Neg(x) out = Relu(a)", []),
        ("a = Neg(x) b = Softmax(a) out = MatMul(b, x)", []),
        ("a = Neg(x) out = MaxPool<kernel_shape=[2,2]>(a)", ["a"]),
        ("a = Neg(x) b = MaxPool<kernel_shape=[1,1]>(a) out = Concat<axis=1>(a, b)", []),
        ("a = Neg(x) out = Conv(a, w3)", []),
        ("a = Neg(x) out = Conv<strides=[2,2]>(a, w1)", ["a"]),
        ("a = Neg(x) out = Conv<strides=[2,2], pads=[1,1,1,1]>(a, w3)", []),
        ("a = Neg(x) out = Conv<strides=[2,2]>(a, w3)", ["a"]),
        ("a = Neg(x) out = Conv<strides=[2,2], auto_pad=\"SAME_UPPER\">(a, w3)", ["a"]),
        ("a = Neg(x) b = Relu(a) c = Abs(b) d = MaxPool<kernel_shape=[2,2]>(c) out = Neg(d)", ["b"]),
    ],
)  # fmt: skip
def test_sums_are_taken_where_nothing_hands_nan_on(body: str, expected: list[str]) -> None:
    proto = model(body)
    for name, size in (("w1", 1), ("w3", 3)):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((4, 4, size, size), np.float32), name))
    assert places(GraphFacts(proto), ["a", "b"]) == ["out", *expected]
