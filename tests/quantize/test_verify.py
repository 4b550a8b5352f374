"""Which tensors a scheme needs, and how much of them a file covers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper

from ptqbridge.errors import InputError
from ptqbridge.model.load import load_model
from ptqbridge.quantize.ranges import Ranges, TensorRange
from ptqbridge.quantize.verify import fitted, float_tensors, needed_tensors, verify


@pytest.fixture
def net(build: Callable[..., onnx.ModelProto]) -> onnx.ModelProto:
    """Conv, Relu, and a Shape that is no float."""
    return build(
        "c = Conv(x, w) r = Relu(c) s = Shape(r) f = Cast<to=1>(s) y = Add(r, r)",
        outputs="float[a,b,c,d] y, float[n] f",
        w=(4, 8, 3, 3),
    )


def of(*names: str) -> Ranges:
    """Ranges with these tensors."""
    return Ranges("max", "tensorrt", 0, "", "", {}, {name: TensorRange(-1.0, 1.0, "max") for name in names})


def test_tensorrt_needs_every_float_tensor_and_no_other(net: onnx.ModelProto) -> None:
    assert needed_tensors(net, "tensorrt") == ["x", "c", "r", "f", "y"]
    assert needed_tensors(net, "horizon") == needed_tensors(net, "tensorrt")


def test_onnxruntime_needs_what_its_placement_quantizes(net: onnx.ModelProto) -> None:
    assert needed_tensors(net, "onnxruntime") == ["x", "r"]


def test_every_example_tensor_is_needed(root: Path) -> None:
    proto = load_model(root / "examples" / "mynet" / "mynet.onnx").proto
    assert needed_tensors(proto, "tensorrt") == ["input1", *(node.output[0] for node in proto.graph.node)]


def test_types_that_onnx_cannot_infer_are_asked_of_the_runtime() -> None:
    """FusedConv is ONNX Runtime's own operator, unknown to ONNX's inference; so is what follows it."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1, 1, 1, 1], [1.0])
    nodes = [
        helper.make_node("FusedConv", ["x", "w"], ["c"], domain="com.microsoft", activation="Relu"),
        helper.make_node("ArgMax", ["c"], ["i"]),
        helper.make_node("Relu", ["c"], ["y"]),
    ]
    shape = [1, 1, 4, 4]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [weight],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    assert float_tensors(proto) == ["x", "c", "y"]


def test_unknown_scheme_and_quantized_model(net: onnx.ModelProto) -> None:
    with pytest.raises(ValueError, match="unknown scheme"):
        needed_tensors(net, "best")
    net.graph.node.append(helper.make_node("QuantizeLinear", ["y", "s0", "z0"], ["q"], name="q"))
    with pytest.raises(InputError, match="quantized already"):
        needed_tensors(net, "tensorrt")


def test_full_cover(net: onnx.ModelProto) -> None:
    found = verify(of("x", "c", "r", "f", "y"), net, "tensorrt")
    assert (found.percent, found.covered, found.missing, found.unknown, found.spare) == (100.0, 5, (), (), ())


def test_missing_spare_unknown_and_renamed(net: onnx.ModelProto) -> None:
    ranges = of("x", "conv_fused", "r", "y", "w", "ghost")
    found = verify(ranges, net, "tensorrt")
    assert found.moved == {"conv_fused": "c"}
    assert (found.missing, found.spare, found.unknown) == (("f",), ("w",), ("ghost",))
    assert found.percent == pytest.approx(80.0)
    assert list(fitted(ranges, found).tensors) == ["x", "c", "r", "y", "w"]
