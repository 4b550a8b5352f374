"""Folding: same outputs, fewer nodes."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

from ptqbridge.quantize.fold import fold_constants, fold_into_conv, inline_constants

RANDOM = np.random.default_rng(3)


def model(body: str, output: str = "float[a,b,c,d] y", opset: int = 13, **constants: np.ndarray) -> onnx.ModelProto:
    proto = parser.parse_model(
        f'<ir_version: 8, opset_import: ["": {opset}]> g (float[1,3,6,6] x) => ({output}) {{{body}}}'
    )
    for position, node in enumerate(proto.graph.node):
        node.name = f"n{position}"
    proto.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    return proto


def run(proto: onnx.ModelProto) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).standard_normal((1, 3, 6, 6)).astype(np.float32)
    return session.run(None, {"x": x})


def kinds(proto: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in proto.graph.node]


def conv_norm(bias: bool = True, groups: int = 1) -> dict[str, np.ndarray]:
    values = {
        "w": RANDOM.standard_normal((6, 3 // groups, 3, 3)),
        "s": RANDOM.standard_normal(6),
        "o": RANDOM.random(6),
    }
    values |= {"m": RANDOM.standard_normal(6), "v": RANDOM.random(6) * 9}
    if bias:
        values["b"] = RANDOM.standard_normal(6)
    return {name: value.astype(np.float32) for name, value in values.items()}


@pytest.mark.parametrize(
    "body",
    [
        "t = Conv(x, w, b) y = BatchNormalization(t, s, o, m, v)",
        "t = Conv(x, w) y = BatchNormalization<epsilon = 0.1>(t, s, o, m, v)",
        "t = Conv(x, w, b) u = BatchNormalization(t, s, o, m, v) y = Relu(u)",
    ],
)
def test_batch_norm_goes_into_conv(body: str) -> None:
    proto = model(body, **conv_norm(bias="b)" in body))
    expected = run(proto)[0]
    assert fold_into_conv(proto) == "1 BatchNormalization folded into the Conv before"
    assert "BatchNormalization" not in kinds(proto)
    assert {tensor.name for tensor in proto.graph.initializer} == {"t_weight", "t_bias"}
    np.testing.assert_allclose(run(proto)[0], expected, rtol=1e-4, atol=1e-5)


def test_depthwise() -> None:
    proto = model("t = Conv<group = 3>(x, w, b) y = BatchNormalization(t, s, o, m, v)", **conv_norm(groups=3))
    expected = run(proto)[0]
    fold_into_conv(proto)
    assert kinds(proto) == ["Conv"]
    np.testing.assert_allclose(run(proto)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("body", "output"),
    [
        ("t = Conv(x, w, b) u = BatchNormalization(t, s, o, m, v) y = Add(u, t)", "float[a,b,c,d] y"),
        ("t = Conv(x, w, b) y = BatchNormalization(t, s, o, m, v)", "float[a,b,c,d] y, float[a,b,c,d] t"),
        ("t = Conv(x, w, b) k = Relu(s) y = BatchNormalization(t, k, o, m, v)", "float[a,b,c,d] y"),
        ("p = Conv(x, w, b) t = Relu(p) y = BatchNormalization(t, s, o, m, v)", "float[a,b,c,d] y"),
    ],
)
def test_not_folded(body: str, output: str) -> None:
    proto = model(body, output, **conv_norm())
    before = proto.SerializeToString()
    assert fold_into_conv(proto) == ""
    assert proto.SerializeToString() == before


@pytest.mark.parametrize(
    ("body", "k"),
    [
        ("t = Conv(x, w, b) y = Add(t, k)", np.arange(6.0).reshape(6, 1, 1)),
        ("t = Conv(x, w) y = Add(k, t)", np.arange(6.0).reshape(1, 6, 1, 1)),
        ("t = Conv(x, w, b) y = Sub(t, k)", np.float32(3)),
        ("t = Conv(x, w, b) y = Sub(k, t)", np.arange(6.0).reshape(6, 1, 1)),
        ("t = Conv(x, w, b) u = Mul(t, k) y = Div(u, s1)", np.arange(6.0).reshape(6, 1, 1)),
        ("t = Conv(x, w) u = BatchNormalization(t, s, o, m, v) z = Mul(u, k) y = Add(z, s1)", np.full(1, 2.0)),
    ],
)
def test_scales_and_shifts_go_into_conv(body: str, k: np.ndarray) -> None:
    proto = model(body, **conv_norm(), k=k.astype(np.float32), s1=np.array([[[0.7]]], np.float32))
    expected = run(proto)[0]
    assert fold_into_conv(proto).endswith("folded into the Conv before")
    assert kinds(proto) == ["Conv"]
    np.testing.assert_allclose(run(proto)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("body", "k"),
    [
        ("t = Conv(x, w, b) y = Div(k, t)", np.float32(3)),
        ("t = Conv(x, w, b) y = Add(t, k)", np.ones(4)),  # along the width
        ("t = Conv(x, w, b) y = Add(t, k)", np.ones((1, 6, 4, 4))),
        ("t = Conv(x, w, b) y = Mul(t, k)", np.ones((2, 1, 6, 1, 1))),
        ("t = Conv(x, w, b) y = Mul(t, t)", np.ones(1)),
        ("t = Conv(x, w, b) r = Relu(t) y = Mul(r, k)", np.ones(1)),
        ("t = Conv(x, w, b) y = Mul(t, k)", np.float32(np.inf)),
    ],
)
def test_what_is_no_scale_or_shift_stays(body: str, k: np.ndarray) -> None:
    proto = model(body, "float[a,b,c,d] y" if np.ndim(k) < 5 else "float[a,b,c,d,e] y", **conv_norm(), k=np.float32(k))
    count = len(proto.graph.node)
    assert fold_into_conv(proto) == ""
    assert len(proto.graph.node) == count


def test_infinite_factor_is_not_folded() -> None:
    constants = conv_norm()
    constants["v"][2] = -1.0
    proto = model("t = Conv(x, w, b) y = BatchNormalization(t, s, o, m, v)", **constants)
    assert fold_into_conv(proto) == ""


def test_shared_weight_is_kept_for_the_other() -> None:
    proto = model(
        "t = Conv(x, w, b) u = BatchNormalization(t, s, o, m, v) z = Conv(x, w, b) y = Add(u, z)", **conv_norm()
    )
    expected = run(proto)[0]
    assert fold_into_conv(proto)
    assert kinds(proto) == ["Conv", "Conv", "Add"]
    np.testing.assert_allclose(run(proto)[0], expected, rtol=1e-4, atol=1e-5)


def test_constant_nodes_become_initializers() -> None:
    proto = model(
        "a = Constant<value = float[1] {2.0}>() b = Constant<value_float = 3.0>() "
        "c = Constant<value_floats = [1.0]>() i = Constant<value_ints = [1, 3, 36]>() "
        "p = Mul(x, a) q = Add(p, b) r = Sub(q, c) y = Reshape(r, i)",
        "float[a,b,c] y",
    )
    expected = run(proto)[0]
    inline_constants(proto)
    assert kinds(proto) == ["Mul", "Add", "Sub", "Reshape"]
    np.testing.assert_array_equal(run(proto)[0], expected)


def test_arithmetic_on_constants() -> None:
    w = RANDOM.standard_normal((3, 3, 6, 1)).astype(np.float32)
    proto = model(
        "p = Transpose<perm = [2, 0, 1, 3]>(w) q = Mul(p, k) y = Conv(x, q)", w=w, k=np.full(1, 0.5, np.float32)
    )
    expected = run(proto)[0]
    assert fold_constants(proto) == "2 nodes of constants computed"
    assert kinds(proto) == ["Conv"]
    assert [tensor.name for tensor in proto.graph.initializer] == ["q"]
    np.testing.assert_array_equal(run(proto)[0], expected)


@pytest.mark.parametrize(
    "body",
    [
        "z = RandomNormalLike(k) y = Add(x, z)",
        "z = ConstantOfShape(n) e = Cast<to = 1>(z) y = Conv(x, e)",
    ],
)
def test_left_alone(body: str) -> None:
    """Random values, and constants that folding would only blow up (300 kB from three numbers)."""
    proto = model(body, k=np.ones((), np.float32), n=np.array([9000, 3, 3, 1], np.int64))
    count = len(proto.graph.node)
    assert fold_constants(proto) == ""
    assert len(proto.graph.node) == count
