"""The graph index and the order of nodes."""

from __future__ import annotations

import onnx
from onnx import helper, parser

from ptqbridge.quantize.graph import GraphIndex, all_names, attribute, in_order, new_name


def model(body: str) -> onnx.ModelProto:
    return parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 13]> g (float[4] x, bool c) => (float[4] y) {{{body}}}'
    )


def test_index() -> None:
    proto = model(
        "a = Relu(x) b = Neg(a) d = Neg(a) e = Add(b, d) "
        "y = If(c) <then_branch = t () => (float[4] p) {p = Relu(b)}, else_branch = f () => (float[4] q) {q = Relu(e)}>"
    )
    index = GraphIndex(proto)
    assert index.pinned == {"y", "b", "e", "c"} - {"c"}
    assert index.only_reader("a") is None
    assert index.only_reader("d") == 3
    assert index.only_reader("b") is None
    assert index.inputs == ["x", "c"]
    assert index.readers["a"] == [1, 2]


def test_bias_after() -> None:
    proto = model("m = MatMul(x, w) y = Add(b, m)")
    for name, dims in (("w", [4, 3]), ("b", [3])):
        size = 12 if name == "w" else 3
        proto.graph.initializer.append(helper.make_tensor(name, onnx.TensorProto.FLOAT, dims, [0.0] * size))
    proto.graph.node[1].name = "bias"
    assert GraphIndex(proto).bias_after(proto.graph.node[0]) == ("bias", "b")
    proto.graph.initializer[1].dims[:] = [1]
    assert GraphIndex(proto).bias_after(proto.graph.node[0]) == (None, "")


def test_in_order() -> None:
    nodes = list(model("a = Relu(x) b = Neg(a) y = Add(a, b)").graph.node)
    assert in_order(nodes) == nodes
    assert in_order(nodes[::-1]) == nodes
    cycle = [helper.make_node("Relu", ["p"], ["q"]), helper.make_node("Relu", ["q"], ["p"])]
    assert in_order(cycle) == cycle


def test_names() -> None:
    proto = model(
        "y = If(c) <then_branch = t () => (float[4] p) {p = Relu(x)}, else_branch = f () => (float[4] q) {q = Relu(x)}>"
    )
    taken = all_names(proto)
    assert {"x", "c", "y", "p", "q"} <= taken
    assert [new_name("p", taken), new_name("p", taken), new_name("new", taken)] == ["p_2", "p_3", "new"]


def test_attribute() -> None:
    node = helper.make_node("Conv", ["x"], ["y"], strides=[2, 2], auto_pad="VALID")
    assert attribute(node, "strides") == [2, 2]
    assert attribute(node, "auto_pad") == b"VALID"
    assert attribute(node, "group", 1) == 1
