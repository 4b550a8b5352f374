"""The quantized model: its numbers, its interface, and that it computes nearly what the float model does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import numpy_helper

from ptqbridge.errors import InputError
from ptqbridge.quantize.explicit import quantize_explicit
from ptqbridge.quantize.placement import observed_tensors
from ptqbridge.quantize.qdq import affine_uint8, quantize, weight_scales
from ptqbridge.quantize.ranges import Ranges
from ptqbridge.quantize.twin import make_twin, rounded_tensors, rounding

Build = Callable[..., onnx.ModelProto]
Run = Callable[..., list[Any]]
Measure = Callable[..., Ranges]
W = {"w": (8, 8, 3, 3), "b": (8,), "w2": (8, 8, 3, 3), "b2": (8,)}
PAD = "<pads = [1, 1, 1, 1]>"
FEED = {"x": np.random.default_rng(0).standard_normal((1, 8, 16, 16)).astype(np.float32)}
finite = st.floats(-(2.0**100), 2.0**100, width=32)


@given(finite, finite)
def test_activation_format(one: float, other: float) -> None:
    low, high = sorted((one, other))
    scale, zero = affine_uint8(low, high)
    assert 0 <= zero <= 255
    assert scale > 0
    for value in (low, 0.0, high):
        integer = np.clip(np.rint(value / float(scale)) + zero, 0, 255)
        assert abs((integer - zero) * float(scale) - value) <= 0.501 * float(scale) + 1e-6 * abs(value)
    if low >= 0:
        assert zero == 0


def test_activation_format_of_zeros() -> None:
    scale, zero = affine_uint8(0.0, 0.0)
    assert scale > 0
    assert scale * scale > np.finfo(np.float32).tiny
    assert zero == 0


weights = arrays.arrays(
    np.float32, arrays.array_shapes(min_dims=2, max_dims=3, max_side=6), elements=st.floats(-100, 100, width=32)
)


@given(weights, st.booleans(), st.floats(1e-6, 10))
def test_weight_scales(weight: np.ndarray, reduce_range: bool, input_scale: float) -> None:
    bias = np.linspace(-50, 50, weight.shape[0], dtype=np.float32)
    scale = weight_scales(weight, 0, bias, np.float32(input_scale), reduce_range=reduce_range)
    assert scale.dtype == np.float32
    assert scale.shape == (weight.shape[0],)
    integers = np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1)))
    assert np.abs(integers).max() <= 127
    assert np.abs(bias / (np.float64(input_scale) * scale)).max() < 2**30 * 1.001
    if reduce_range and weight[0].size > 1:
        pairs = np.sort(np.abs(integers).reshape(weight.shape[0], -1), axis=1)[:, -2:].sum(axis=1)
        assert pairs.max() <= 128


def test_weight_scales_are_tight() -> None:
    weight = np.array([[1.0, -0.5, 0.25], [0.0, 0.0, 0.0]], np.float32)
    assert weight_scales(weight, 0, None, np.float32(1))[0] == np.float32(1 / 127)
    assert weight_scales(weight, 0, None, np.float32(1), reduce_range=True)[0] == np.float32(1.5 / 127)
    assert weight_scales(weight.T, 1, None, np.float32(1))[0] == np.float32(1 / 127)


def quantized(
    build: Build, measure: Measure, body: str, feed: dict[str, Any] = FEED, **options: Any
) -> tuple[Any, Any]:
    keep = options.pop("keep_float", frozenset())
    reduce_range = options.pop("reduce_range", True)
    proto = build(body, **options)
    ranges = measure(proto, observed_tensors(proto, "onnxruntime", keep), feed)
    return proto, quantize(proto, ranges, keep_float=keep, reduce_range=reduce_range)


def close(expected: list[Any], found: list[Any], share: float = 0.03) -> None:
    for one, other in zip(expected, found, strict=True):
        assert one.shape == other.shape
        assert np.abs(one - other).max() <= share * np.abs(one).max()


BODIES = {
    "conv": f"y = Conv{PAD}(x, w, b)",
    "no bias": f"y = Conv{PAD}(x, w)",
    "relu": f"t = Conv{PAD}(x, w, b) r = Relu(t) y = Conv{PAD}(r, w2, b2)",
    "clip": f"t = Conv{PAD}(x, w, b) r = Clip(t, lo, hi) y = Conv{PAD}(r, w2, b2)",
    "residual": f"t = Conv{PAD}(x, w, b) r = Relu(t) u = Conv{PAD}(r, w2, b2) y = Add(u, t)",
    "shared weight": f"t = Conv{PAD}(x, w, b) r = Relu(t) y = Conv{PAD}(r, w, b)",
    "silu": f"t = Conv{PAD}(x, w, b) s = Sigmoid(t) u = Mul(s, t) y = Conv{PAD}(u, w2, b2)",
    "concat": f"t = Conv{PAD}(x, w, b) u = Conv{PAD}(t, w2, b2) c = Concat<axis = 2>(t, u) y = Conv{PAD}(c, w, b)",
    "pool": f"t = Conv{PAD}(x, w, b) p = MaxPool<kernel_shape = [2, 2]>(t) g = AveragePool<kernel_shape = [2, 2]>(p) "
    f"y = Conv{PAD}(g, w2, b2)",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("opset", [11, 13, 17])
def test_near_the_float_model(build: Build, run: Run, measure: Measure, body: str, opset: int) -> None:
    constants = {**W, "lo": np.float32(-0.5), "hi": np.float32(1)}
    proto, int8 = quantized(build, measure, body, opset=opset, **constants)
    onnx.checker.check_model(int8)
    close(run(proto, FEED), run(int8, FEED))
    assert [value.name for value in int8.graph.input] == ["x"]
    assert [value.name for value in int8.graph.output] == ["y"]
    assert not any(tensor.name in W and len(tensor.dims) > 1 for tensor in int8.graph.initializer)


def test_integer_kernels_compute_what_the_file_says(build: Build, run: Run, measure: Measure) -> None:
    """The worst case for int16 sums: all inputs and weights at their largest. Exact on any CPU with reduce_range."""
    feed = {"x": np.full((1, 8, 16, 16), 2.0, np.float32)}
    weight = np.full((8, 8, 3, 3), 1.0, np.float32)
    _, int8 = quantized(build, measure, f"y = Conv{PAD}(x, w, b)", feed, w=weight, b=np.ones(8, np.float32))
    assert np.abs(run(int8, feed)[0] - run(int8, feed, plain=True)[0]).max() <= 145 / 255 * 1.01
    _, int8 = quantized(build, measure, BODIES["residual"], **W)
    close(run(int8, FEED, plain=True), run(int8, FEED), 0.02)


def test_formats(build: Build, measure: Measure) -> None:
    _, int8 = quantized(build, measure, BODIES["relu"], **W, reduce_range=False)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in int8.graph.initializer}
    assert constants["w_int8"].dtype == np.int8
    assert np.abs(constants["w_int8"]).reshape(8, -1).max(axis=1).tolist() == [127] * 8
    assert constants["w_scale"].shape == (8,)
    assert constants["b_int32"].dtype == np.int32
    np.testing.assert_allclose(constants["b_scale"], constants["x_scale"] * constants["w_scale"], rtol=1e-6)
    assert constants["r_zero_point"].dtype == np.uint8
    assert constants["r_zero_point"] == 0
    assert constants["x_zero_point"] > 100


def test_dead_channel_keeps_its_bias(build: Build, run: Run, measure: Measure) -> None:
    weight = np.random.default_rng(1).standard_normal((8, 8, 1, 1)).astype(np.float32)
    weight[3], weight[4] = 0.0, 1e-12
    proto, int8 = quantized(build, measure, "y = Conv(x, w, b)", w=weight, b=np.full(8, 2.0, np.float32))
    close([run(proto, FEED)[0][:, 3:5]], [run(int8, FEED)[0][:, 3:5]], 0.05)


def test_dynamic_shapes_and_two_inputs(build: Build, run: Run, measure: Measure) -> None:
    random = np.random.default_rng(2)
    feed = {name: random.standard_normal((2, 8, 9, 9)).astype(np.float32) for name in ("x", "z")}
    proto, int8 = quantized(
        build,
        measure,
        f"t = Conv{PAD}(x, w, b) u = Conv{PAD}(z, w2, b2) s = Add(t, u) y = Conv{PAD}(s, w, b)",
        feed,
        inputs="float[n,8,h,v] x, float[n,8,h,v] z",
        **W,
    )
    assert int8.graph.input == proto.graph.input
    assert int8.graph.output == proto.graph.output
    for batch, side in ((1, 9), (3, 12)):
        # Half as large as what the ranges were measured on, so that nothing is clipped.
        other = {name: random.standard_normal((batch, 8, side, side)).astype(np.float32) / 2 for name in "xz"}
        close(run(proto, other), run(int8, other), 0.06)


def test_inner_output_keeps_its_name(build: Build, run: Run, measure: Measure) -> None:
    proto, int8 = quantized(
        build, measure, BODIES["relu"], outputs="float[a,b,c,d] y, float[a,b,c,d] r, float[a,b,c,d] t", **W
    )
    assert [value.name for value in int8.graph.output] == ["y", "r", "t"]
    close(run(proto, FEED), run(int8, FEED))


def test_output_that_is_an_input(build: Build, run: Run, measure: Measure) -> None:
    proto, int8 = quantized(build, measure, BODIES["conv"], outputs="float[a,b,c,d] y, float[1,8,16,16] x", **W)
    np.testing.assert_array_equal(run(int8, FEED)[1], FEED["x"])
    close(run(proto, FEED), run(int8, FEED))


def test_branch_reads_a_quantized_tensor(build: Build, run: Run, measure: Measure) -> None:
    body = (
        f"t = Conv{PAD}(x, w, b) y = If(c) <then_branch = p () => (float[1,8,16,16] a) {{a = Neg(t)}}, "
        "else_branch = q () => (float[1,8,16,16] e) {e = Identity(t)}>"
    )
    feed = {**FEED, "c": np.array(True)}
    proto, int8 = quantized(build, measure, body, feed, inputs="float[1,8,16,16] x, bool c", **W)
    close(run(proto, feed), run(int8, feed))


def test_matmul_bias_becomes_int32(build: Build, run: Run, measure: Measure) -> None:
    feed = {"x": np.random.default_rng(3).standard_normal((1, 5, 16)).astype(np.float32)}
    proto, int8 = quantized(
        build,
        measure,
        "t = MatMul(x, w) u = Add(b, t) v = Relu(u) s = MatMul(v, w2) y = Softmax<axis = 2>(s)",
        feed,
        inputs="float[n,5,16] x",
        outputs="float[n,5,6] y",
        w=(16, 8),
        b=(8,),
        w2=(8, 6),
    )
    constants = {tensor.name: tensor.data_type for tensor in int8.graph.initializer}
    assert constants["b_int32"] == onnx.TensorProto.INT32
    assert "b" not in constants
    close(run(proto, feed), run(int8, feed))


def test_kept_float(build: Build, run: Run, measure: Measure) -> None:
    proto, int8 = quantized(build, measure, BODIES["relu"], keep_float=frozenset({"Conv_y"}), **W)
    conv = next(node for node in int8.graph.node if node.name == "Conv_y")
    assert list(conv.input[1:]) == ["w2", "b2"]
    close(run(proto, FEED), run(int8, FEED))
    _, float_model = quantized(build, measure, BODIES["relu"], keep_float=frozenset({"Conv_y", "Conv_t"}), **W)
    assert [node.op_type for node in float_model.graph.node] == ["Conv", "Relu", "Conv"]


def test_float_reader_of_a_float_tensor_sees_no_rounding(build: Build, measure: Measure) -> None:
    """Tanh makes it, a Conv and a Neg read it: only the Conv reads the rounded values."""
    _, int8 = quantized(
        build, measure, f"t = Tanh(x) u = Conv{PAD}(t, w, b) n = Neg(t) y = Concat<axis = 1>(u, n)", **W
    )
    readers = {node.name: list(node.input) for node in int8.graph.node}
    assert readers["Neg_n"] == ["t"]
    assert readers["Conv_u"][0] == "t_dequantized"


def test_per_tensor_below_opset_13(build: Build, run: Run, measure: Measure) -> None:
    proto, _ = quantized(build, measure, BODIES["relu"], **W)
    low = onnx.ModelProto()
    low.CopyFrom(proto)
    low.opset_import[0].version = 11
    int8 = quantize(low, measure(low, observed_tensors(low), FEED), reduce_range=True)
    scales = {tensor.name: list(tensor.dims) for tensor in int8.graph.initializer}
    assert scales["w_scale"] == []
    close(run(proto, FEED), run(int8, FEED), 0.05)
    low.opset_import[0].version = 9
    with pytest.raises(InputError, match="opset 9 has no QuantizeLinear"):
        quantize(low, Ranges("max", "onnxruntime", 1, "", "", {}, {}))


def test_missing_range_is_named(build: Build, measure: Measure) -> None:
    proto = build(BODIES["relu"], **W)
    with pytest.raises(InputError, match="lack 2 of 3 tensors, first 'r'"):
        quantize(proto, measure(proto, ["x"], FEED))


def test_the_float_model_is_not_changed(build: Build, measure: Measure) -> None:
    proto = build(BODIES["residual"], **W)
    before = proto.SerializeToString()
    quantize(proto, measure(proto, observed_tensors(proto), FEED))
    assert proto.SerializeToString() == before


@pytest.mark.parametrize("scheme", ["tensorrt", "horizon"])
def test_other_schemes(build: Build, measure: Measure, run: Run, scheme: str) -> None:
    proto = build(BODIES["residual"], **W)
    ranges = measure(proto, proto_tensors(proto), FEED)
    made = quantize(proto, ranges, scheme=scheme)
    if scheme == "tensorrt":
        assert made == quantize_explicit(proto, ranges).proto
    else:
        assert made == make_twin(proto, rounded_tensors(proto, scheme), ranges.tensors, rounding(scheme))
    kinds = {tensor.data_type for tensor in made.graph.initializer if tensor.name.endswith("zero_point")}
    assert kinds == {onnx.TensorProto.INT8}
    close(run(proto, FEED), run(made, FEED), 0.05)
    first = next(node.name for node in proto.graph.node if node.op_type == "Conv")
    kept = quantize(proto, ranges, scheme=scheme, keep_float=frozenset({first}))
    weight = next(node.input[1] for node in kept.graph.node if node.name == first)
    assert weight in {tensor.name for tensor in proto.graph.initializer}
    with pytest.raises(ValueError, match="reduce_range is for onnxruntime only"):
        quantize(proto, ranges, scheme=scheme, reduce_range=True)


def proto_tensors(proto: onnx.ModelProto) -> list[str]:
    return [proto.graph.input[0].name, *(name for node in proto.graph.node for name in node.output)]


def test_horizon_rounds_what_is_never_negative_as_uint8_when_asked(build: Build, measure: Measure) -> None:
    proto = build(BODIES["relu"], **W)
    ranges = replace(measure(proto, proto_tensors(proto), FEED), details={"asymmetric": True})
    made = quantize(proto, ranges, scheme="horizon")
    kinds = {tensor.data_type for tensor in made.graph.initializer if tensor.name.endswith("zero_point")}
    assert kinds == {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}
    with pytest.raises(InputError, match="lack 2 of 2 tensors, first 'x'"):
        quantize(proto, replace(ranges, tensors={}), scheme="horizon")


def test_an_unknown_scheme(build: Build, measure: Measure) -> None:
    proto = build(BODIES["relu"], **W)
    with pytest.raises(ValueError, match="unknown scheme 'other'"):
        quantize(proto, measure(proto, observed_tensors(proto), FEED), scheme="other")
