"""Inputs and outputs as TensorSpec."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper, parser

from ptqbridge.errors import InputError
from ptqbridge.model.interface import ANY_RANK, dtype_name, read_interface

PATH = Path("model.onnx")


def test_shapes() -> None:
    proto = parser.parse_model(
        '<ir_version: 8, opset_import: ["": 13]> '
        "g (float[N,3,?,5] a, int64[2] b, uint8 c) => (float[N,3,?,5] y) {y = Relu(a)}"
    )
    proto.graph.input[0].type.tensor_type.shape.dim[3].dim_value = -1
    inputs, outputs = read_interface(proto, PATH)
    assert [(spec.name, spec.dtype, spec.shape) for spec in inputs] == [
        ("a", "float32", ("N", 3, "", "")),
        ("b", "int64", (2,)),
        ("c", "uint8", ()),
    ]
    assert outputs[0].shape == ("N", 3, "", 5)


def test_initializers_are_no_inputs() -> None:
    proto = parser.parse_model(
        '<ir_version: 3, opset_import: ["": 13]> g (float[2] x, float[2] w) => (float[2] y) {y = Add(x, w)}'
    )
    proto.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0]))
    assert [spec.name for spec in read_interface(proto, PATH)[0]] == ["x"]


def model_with_output(output: onnx.ValueInfoProto, op: str = "Relu") -> onnx.ModelProto:
    graph = helper.make_graph(
        [helper.make_node(op, ["x"], ["y"], domain="" if op == "Relu" else "com.microsoft")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, "n"])],
        [output],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def test_output_shape_is_inferred() -> None:
    for output in (helper.make_tensor_value_info("y", TensorProto.FLOAT, None), onnx.ValueInfoProto(name="y")):
        _, outputs = read_interface(model_with_output(output), PATH)
        assert (outputs[0].dtype, outputs[0].shape) == ("float32", (2, "n"))


def test_output_of_unknown_rank() -> None:
    output = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    _, outputs = read_interface(model_with_output(output, "Inverse"), PATH)
    assert outputs[0].shape == ANY_RANK


def test_input_without_rank() -> None:
    proto = model_with_output(helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, "n"]))
    proto.graph.input[0].type.tensor_type.ClearField("shape")
    with pytest.raises(InputError, match="input 'x' has no shape"):
        read_interface(proto, PATH)


def test_sequence_output() -> None:
    output = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, None)
    with pytest.raises(InputError, match="output 'y' is a sequence; expected a tensor"):
        read_interface(model_with_output(output), PATH)


def test_dtype_names() -> None:
    names = {TensorProto.FLOAT: "float32", TensorProto.DOUBLE: "float64", TensorProto.UINT8: "uint8", 0: ""}
    names |= {TensorProto.BFLOAT16: "bfloat16", TensorProto.STRING: "object", TensorProto.BOOL: "bool"}
    assert {kind: dtype_name(kind) for kind in names} == names
