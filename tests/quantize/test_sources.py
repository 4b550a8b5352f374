"""What the graph proves about its tensors."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper, parser

from ptqbridge.quantize.sources import GraphFacts, TensorType


def facts(body: str, inputs: str = "float[1,4,8,8] x", output: str = "float[a] out", opset: int = 17) -> GraphFacts:
    return GraphFacts(
        parser.parse_model(f'<ir_version: 8, opset_import: ["": {opset}]> g ({inputs}) => ({output}) {{{body}}}')
    )


def test_source_walks_through_data_movement_only() -> None:
    graph = facts(
        "a = Relu(x) b = Transpose(a) c = Flatten(b) d = Identity(c) e = MaxPool<kernel_shape=[1,1]>(a) out = Neg(d)"
    )
    assert graph.source("d") == "a"
    assert graph.source("e") == "e"
    assert graph.source("x") == "x"
    assert graph.source("out") == "out"


@pytest.mark.parametrize(
    ("body", "proven"),
    [
        ("out = Relu(x)", True),
        ("out = Neg(x)", False),
        ("a = Relu(x) out = MaxPool<kernel_shape=[2,2]>(a)", True),
        ("a = Relu(x) b = Neg(x) out = Add(a, b)", False),
        ("a = Relu(x) b = Sigmoid(x) c = Add(a, b) out = Concat<axis=1>(c, a)", True),
        ("a = Sigmoid(x) out = Mul(x, a)", False),
        ("zero = Constant<value_float=0.0>() out = Clip(x, zero)", True),
        ("low = Constant<value_float=-1.0>() out = Clip(x, low)", False),
        ("out = Clip(x)", False),
        ("a = Relu(x) s = Constant<value_floats=[1.0,1.0,2.0,2.0]>() out = Resize<mode=\"linear\">(a, , s)", True),
        ("a = Relu(x) s = Constant<value_floats=[1.0,1.0,2.0,2.0]>() out = Resize<mode=\"cubic\">(a, , s)", False),
        ("a = Relu(x) half = Constant<value_float=0.5>() out = Mul(a, half)", True),
        ("a = Relu(x) half = Constant<value_float=-0.5>() out = Mul(a, half)", False),
        ("a = Softmax(x) b, c = Split<axis=1>(a) out = Transpose(c)", True),
    ],
)  # fmt: skip
def test_never_negative(body: str, proven: bool) -> None:
    assert facts(body).never_negative("out") is proven


def test_never_negative_in_a_graph_deeper_than_the_stack() -> None:
    chain = " ".join(f"t{i + 1} = MaxPool<kernel_shape=[1,1]>(t{i})" for i in range(3000))
    assert facts(f"t0 = Relu(x) {chain} out = Identity(t3000)").never_negative("out")


def test_old_clip_keeps_its_bounds_in_attributes() -> None:
    assert facts("out = Clip<min=0.0, max=6.0>(x)", opset=9).never_negative("out")
    assert not facts("out = Clip<max=6.0>(x)", opset=9).never_negative("out")


def test_types_come_without_the_weights() -> None:
    model = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 13]> g (float[1,3,8,8] x, float[64,3,3,3] w) => (float[a,b,c,d] out)'
        "{ y = Conv(x, w) out = Relu(y) }"
    )
    del model.graph.input[1]
    model.graph.initializer.append(numpy_helper.from_array(np.ones((64, 3, 3, 3), np.float32), "w"))
    before = model.SerializeToString()
    assert GraphFacts(model).type_of("y") == TensorType(TensorProto.FLOAT, (1, 64, 6, 6))
    assert model.SerializeToString() == before


def test_types_of_a_graph_that_inference_cannot_follow() -> None:
    graph = facts("y = my.Thing(x) out = Relu(y)".replace("my.Thing", "Relu"))
    assert graph.type_of("nothing") is None
    node = onnx.helper.make_node("Unknown", ["x"], ["y"], domain="my")
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [node], "g", [onnx.helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])],
            [onnx.helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        )
    )  # fmt: skip
    known = GraphFacts(model).type_of("y")
    assert known is not None
    assert known.rank is None


def test_constants() -> None:
    graph = facts("c = Constant<value_floats=[1.0,-2.0]>() out = Add(x, c)", inputs="float[2] x")
    value = graph.constant("c")
    assert value is not None
    assert value.tolist() == [1.0, -2.0]
    assert graph.constant("x") is None
    assert "c" in graph
    assert "nope" not in graph
