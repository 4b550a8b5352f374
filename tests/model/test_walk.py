"""Walks reach nested graphs."""

from __future__ import annotations

import onnx
import pytest
from onnx import parser

from ptqbridge.model.walk import all_graphs, all_nodes, all_tensors, captured


@pytest.fixture
def nested() -> onnx.ModelProto:
    return parser.parse_model(
        '<ir_version: 8, opset_import: ["": 13]> g (float[4] x, bool c) => (float[4] y) {'
        "z = Neg(x) y = If(c) <then_branch = t () => (float[4] a) "
        "{k = Constant<value = float[1] {2.0}>() a = Mul(z, k)}, "
        "else_branch = e () => (float[4] b) {b = If(c) <then_branch = i () => (float[4] p) {p = Relu(x)}, "
        "else_branch = j () => (float[4] q) {q = Identity(z)}>}>}"
    )


def test_everything_is_reached(nested: onnx.ModelProto) -> None:
    assert [graph.name for graph in all_graphs(nested.graph)] == ["g", "t", "e", "i", "j"]
    assert sorted(node.op_type for node in all_nodes(nested)) == sorted(
        ["Neg", "If", "Constant", "Mul", "If", "Relu", "Identity"]
    )
    assert [list(tensor.dims) for tensor in all_tensors(nested)] == [[1]]


def test_captured(nested: onnx.ModelProto) -> None:
    assert captured(nested.graph.node[1]) == {"z", "x", "c"}
    assert captured(nested.graph.node[0]) == set()
