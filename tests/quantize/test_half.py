"""Half precision in the model: what changes type, what stays fp32 and why, and that results stay near."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from ptqbridge.quantize.half import half_tensor, to_half

RANDOM = np.random.default_rng(3)


def network(largest: float = 1.0, opset: int = 13) -> onnx.ModelProto:
    """Conv -> Relu -> Exp -> Resize -> y."""
    weight = RANDOM.normal(size=(4, 3, 3, 3)).astype(np.float32)
    weight.flat[0] = largest
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w"], ["c"], "conv"),
        node("Relu", ["c"], ["r"], "relu"),
        node("Sigmoid", ["r"], ["g"], "sigmoid"),
        node("Exp", ["g"], ["e"], "exp"),
        node("Resize", ["e", "", "scales"], ["y"], "resize"),
    ]
    scales = numpy_helper.from_array(np.array([1, 1, 2, 2], np.float32), "scales")
    ends = [
        helper.make_tensor_value_info(*entry)
        for entry in (("x", TensorProto.FLOAT, [1, 3, 6, 6]), ("y", TensorProto.FLOAT, [1, 4, 8, 8]))
    ]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w"), scales])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def run(proto: onnx.ModelProto, value: Any) -> Any:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": value})[0]


def test_nodes_change_type_and_ends_do_not() -> None:
    proto = network()
    made = to_half(proto, "fp16")
    onnx.checker.check_model(made.proto, full_check=True)
    assert made.half == ("conv", "relu", "sigmoid", "resize")
    assert made.kept == {"exp": "Exp stays in fp32"}
    assert made.casts == 4  # x, before and after Exp, y
    kinds = [value.type.tensor_type.elem_type for value in (*made.proto.graph.input, *made.proto.graph.output)]
    assert kinds == [TensorProto.FLOAT] * 2
    constants = {tensor.name: tensor.data_type for tensor in made.proto.graph.initializer}
    assert constants == {"scales": TensorProto.FLOAT, "w_fp16": TensorProto.FLOAT16}
    value = RANDOM.normal(size=(1, 3, 6, 6)).astype(np.float32)
    assert np.allclose(run(proto, value), run(made.proto, value), rtol=0.01, atol=0.01)
    assert len(proto.graph.node) == 5  # the original is as it was


def test_weights_and_activations_out_of_range_keep_their_layer_in_fp32() -> None:
    assert to_half(network(1e5), "fp16").kept["conv"] == "w reaches 1e+05"
    assert "w reaches" not in to_half(network(1e5), "bf16").kept.get("conv", "")
    seen = to_half(network(), "fp16", amax={"r": 40000.0})
    assert seen.kept["relu"] == "r reaches 4e+04" and seen.kept["sigmoid"] == "r reaches 4e+04"
    assert "conv" in seen.half
    assert "inf" not in str(to_half(network(float("inf")), "fp16").half)
    assert to_half(network(float("inf")), "fp16").kept["conv"] == "w holds values that are not finite"


def test_layers_asked_for() -> None:
    assert to_half(network(), "fp16", keep=["relu"]).kept["relu"] == "asked for"
    only = to_half(network(), "fp16", only=["conv"])
    assert only.half == ("conv",) and only.kept["relu"] == "not asked for"


def quantized(opset: int, scale: float) -> onnx.ModelProto:
    """x -> Q -> DQ -> Relu -> y."""
    constants = [numpy_helper.from_array(np.float32(scale), "s"), numpy_helper.from_array(np.int8(0), "z")]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "quantize"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "dequantize"),
        helper.make_node("Relu", ["d"], ["y"], "relu"),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def test_pairs_change_type_together_or_not_at_all() -> None:
    assert to_half(quantized(19, 0.1), "fp16").half == ("quantize", "dequantize", "relu")
    old = to_half(quantized(13, 0.1), "fp16")
    assert old.half == () and old.kept["quantize"] == "opset 13 has no QuantizeLinear in half precision"
    assert old.kept["relu"] == "its integer inputs are scaled to fp32"
    small = to_half(quantized(19, 1e-6), "fp16")
    assert small.half == () and "scale s goes down" in small.kept["quantize"]


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_bf16_is_the_nearest_with_eight_bits(value: float) -> None:
    stored = np.frombuffer(half_tensor(np.array([value], np.float32), "bf16", "t").raw_data, "<u2")
    found = (stored.astype(np.uint32) << 16).view(np.float32)[0]
    if np.isfinite(found):
        assert abs(float(found) - value) <= max(abs(value) * 2.0**-8, 2.0**-133)


def test_a_tensor_that_a_subgraph_reads_keeps_its_float_form() -> None:
    inner = helper.make_graph(
        [helper.make_node("Neg", ["r"], ["n"])],
        "then",
        [],
        [helper.make_tensor_value_info("n", TensorProto.FLOAT, [1, 4])],
    )
    other = helper.make_graph(
        [helper.make_node("Abs", ["r"], ["a"])],
        "else",
        [],
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, [1, 4])],
    )
    nodes = [
        helper.make_node("Relu", ["x"], ["r"], "relu"),
        helper.make_node("If", ["b"], ["y"], "if", then_branch=inner, else_branch=other),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("x", "y")]
    ends.append(helper.make_tensor_value_info("b", TensorProto.BOOL, []))
    graph = helper.make_graph(nodes, "g", [ends[0], ends[2]], [ends[1]])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    made = to_half(proto, "fp16")
    assert made.half == ("relu",)
    session = onnxruntime.InferenceSession(made.proto.SerializeToString(), providers=["CPUExecutionProvider"])
    value = np.array([[1, -1, 2, 3]], np.float32)
    assert session.run(None, {"x": value, "b": np.array(True)})[0].tolist() == [[-1, 0, -2, -3]]


@pytest.mark.parametrize("kind", ["fp16", "bf16"])
def test_an_integer_model_is_left_alone(kind: str) -> None:
    ends = [helper.make_tensor_value_info(name, TensorProto.INT64, [2]) for name in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"], "abs")], "g", ends[:1], ends[1:])
    made = to_half(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), kind)
    assert (made.half, made.kept, made.casts) == ((), {}, 0)
