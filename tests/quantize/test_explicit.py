"""Explicit quantization: where pairs go, what they hold, and that the model still computes the same."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from ptqbridge.quantize.calibrate import calibrate
from ptqbridge.quantize.explicit import explicit_placement, quantize_explicit
from ptqbridge.quantize.ranges import Ranges, TensorRange

RANDOM = np.random.default_rng(7)


def weight(name: str, *shape: int) -> onnx.TensorProto:
    return numpy_helper.from_array(RANDOM.normal(size=shape).astype(np.float32), name)


def model(nodes: list[Any], weights: list[Any], shape: Any = None) -> onnx.ModelProto:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 8, 6, 6]) for name in ("x",)]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)]
    graph = helper.make_graph(nodes, "g", ends, out, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def residual() -> onnx.ModelProto:
    """conv1 -> relu -> conv2 -> Add(relu) -> relu -> average pool -> flatten -> fc."""
    node = helper.make_node
    nodes = [
        node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        node("Relu", ["c1"], ["r1"], "relu1"),
        node("Conv", ["r1", "w2"], ["c2"], "conv2", pads=[1, 1, 1, 1]),
        node("Add", ["c2", "r1"], ["s"], "add"),
        node("Relu", ["s"], ["r2"], "relu2"),
        node("GlobalAveragePool", ["r2"], ["p"], "pool"),
        node("Flatten", ["p"], ["f"], "flatten"),
        node("Gemm", ["f", "w3", "b3"], ["y"], "fc", transB=1),
    ]
    weights = [weight("w1", 8, 8, 3, 3), weight("b1", 8), weight("w2", 8, 8, 3, 3), weight("w3", 4, 8), weight("b3", 4)]
    return model(nodes, weights, [1, 4])


def samples(count: int = 4) -> list[dict[str, Any]]:
    return [{"x": RANDOM.normal(size=(1, 8, 6, 6)).astype(np.float32)} for _ in range(count)]


def run(proto: onnx.ModelProto, sample: dict[str, Any]) -> Any:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, sample)[0]


def ranges_of(proto: onnx.ModelProto, data: list[dict[str, Any]]) -> Ranges:
    return calibrate(proto, list(explicit_placement(proto).quantized), data, algorithm="max")


def test_pairs_stand_on_inputs_of_layers_on_the_skip_branch_and_before_pooling() -> None:
    placement = explicit_placement(residual())
    assert placement.layers == ("conv1", "conv2", "fc", "pool")
    assert placement.quantized == ("x", "r1", "r2", "f")
    assert placement.floats == {}


def test_the_quantized_model_holds_the_rules_of_the_parser() -> None:
    proto, data = residual(), samples()
    made = quantize_explicit(proto, ranges_of(proto, data)).proto
    onnx.checker.check_model(made, full_check=True)
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    readers = {name: node for node in made.graph.node for name in node.input}
    pairs = [node for node in made.graph.node if node.op_type == "QuantizeLinear"]
    for node in pairs:
        scale, zero = constants[node.input[1]], constants[node.input[2]]
        assert scale.dtype == np.float32 and (scale > 0).all()
        assert zero.dtype == np.int8 and not zero.any() and zero.shape == scale.shape
        partner = readers[node.output[0]]
        assert partner.op_type == "DequantizeLinear" and partner.input[1] == node.input[1]
    assert Counter(constants[node.input[1]].shape for node in pairs) == {(): 4, (8,): 2, (4,): 1}
    by_name = {node.name: node for node in made.graph.node}
    assert by_name["conv1"].input[2] == "b1"  # biases stay float32
    assert by_name["add"].input[0] == "c2" and by_name["add"].input[1] == by_name["conv2"].input[0]
    assert by_name["relu2"].input[0] == "s"


def test_outputs_stay_near_float() -> None:
    proto, data = residual(), samples()
    made = quantize_explicit(proto, ranges_of(proto, data)).proto
    for sample in data:
        want, have = run(proto, sample).ravel(), run(made, sample).ravel()
        assert want @ have / np.linalg.norm(want) / np.linalg.norm(have) > 0.999


def test_scales_are_those_of_a_cache_to_the_bit() -> None:
    proto = residual()
    bits = {"x": 0x3C010A14, "r1": 0x3D418306, "r2": 0x3CA14285, "f": 0x37041AA4}
    scales = {name: np.uint32(number).view(np.float32) for name, number in bits.items()}
    tensors = {name: TensorRange(-127.0 * float(s), 127.0 * float(s), "entropy2") for name, s in scales.items()}
    made = quantize_explicit(proto, Ranges("entropy2", "tensorrt", 0, "", "", {}, tensors)).proto
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    for name, number in bits.items():
        assert constants[f"{name}_scale"].view(np.uint32) == number


def test_a_layer_without_a_range_stays_float() -> None:
    proto = residual()
    known = {name: TensorRange(-1.0, 1.0, "max") for name in ("x", "f")}
    made = quantize_explicit(proto, Ranges("max", "tensorrt", 0, "", "", {}, known))
    assert made.placement.layers == ("conv1", "fc")
    assert made.placement.floats == {"conv2": "no range is known for r1"}
    assert [node.name for node in made.proto.graph.node if node.name == "conv2"]


def test_layers_asked_for_stay_float() -> None:
    placement = explicit_placement(residual(), keep_float=["conv2"])
    assert "conv2" not in placement.layers and placement.floats == {"conv2": "asked for"}


def test_a_dead_tensor_gets_the_smallest_scale() -> None:
    proto = residual()
    tensors = {name: TensorRange(0.0, 0.0, "max") for name in ("x", "r1", "r2", "f")}
    made = quantize_explicit(proto, Ranges("max", "tensorrt", 0, "", "", {}, tensors)).proto
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    assert constants["x_scale"] == np.float32(2.0**-126)


@pytest.mark.parametrize(("op", "shape", "axis"), [("Conv", (4, 8, 1, 1), 0), ("ConvTranspose", (8, 4, 1, 1), 1)])
def test_the_axis_of_output_channels(op: str, shape: tuple[int, ...], axis: int) -> None:
    proto = model([helper.make_node(op, ["x", "w"], ["y"], "layer")], [weight("w", *shape)])
    made = quantize_explicit(proto, ranges_of(proto, samples(1))).proto
    pair = next(node for node in made.graph.node if node.op_type == "QuantizeLinear" and node.input[0] == "w")
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in made.graph.initializer}
    assert constants[pair.input[1]].shape == (4,)
    assert helper.get_attribute_value(pair.attribute[0]) == axis


def test_a_matmul_of_two_activations_quantizes_both() -> None:
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], "t", perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["x", "t"], ["y"], "mm"),
    ]
    placement = explicit_placement(model(nodes, []))
    assert placement.quantized == ("x", "t")
