"""Lowering to opset 11: the same outputs in ONNX Runtime, or a reason why not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from ptqbridge.model.check import opset_of
from ptqbridge.quantize.lower import CannotLower, lower_ir, lower_opset

X = np.random.default_rng(0).standard_normal((2, 3, 4, 6)).astype(np.float32)


def model_of(
    nodes: Sequence[onnx.NodeProto], opset: int, weights: dict[str, Any] | None = None, outputs: str = "y"
) -> onnx.ModelProto:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)
    made = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs.split()]
    constants = [numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()]
    graph = helper.make_graph(list(nodes), "g", [x], made, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    try:
        known = onnx.shape_inference.infer_shapes(model).graph.output
    except Exception:  # an opset that this onnx does not know
        return model
    del model.graph.output[:]
    model.graph.output.extend(known)
    return model


def run(model: onnx.ModelProto) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: list[Any] = session.run(None, {"x": X})
    return found


def node(op_type: str, inputs: str = "x", outputs: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(
        op_type, inputs.split(), outputs.split(), name=f"the_{op_type}" if outputs in ("y", "y m") else "", **attributes
    )


def at(opset: int, *nodes: onnx.NodeProto, outputs: str = "y", **weights: Any) -> onnx.ModelProto:
    return model_of(nodes, opset, weights, outputs)


I64 = np.int64
CASES = {
    "relu": at(17, node("Relu")),
    "softmax of the last axis": at(13, node("Softmax")),
    "softmax of the last axis by number": at(13, node("Softmax", axis=3)),
    "softmax of an inner axis": at(13, node("Softmax", axis=1)),
    "log-softmax of a negative axis": at(17, node("LogSoftmax", axis=-2)),
    "squeeze": at(13, node("Unsqueeze", "x a", "t"), node("Squeeze", "t a"), a=I64([0])),
    "squeeze all": at(17, node("Squeeze")),
    "sum": at(13, node("ReduceSum", "x a", keepdims=0), a=I64([1, 3])),
    "sum of nothing": at(13, node("ReduceSum", noop_with_empty_axes=1)),
    "mean": at(18, node("ReduceMean", "x a"), a=I64([-1])),
    "max of all": at(18, node("ReduceMax", keepdims=0)),
    "split": at(13, node("Split", "x s", "a b", axis=3), node("Concat", "b a", axis=3), s=I64([2, 4])),
    "split evenly": at(18, node("Split", "x", "a b", axis=3, num_outputs=2), node("Concat", "b a", axis=3)),
    "pad": at(13, node("Pad", "x p v"), p=I64([0, 0, 1, 2, 0, 0, 3, 4]), v=np.float32(0.5)),
    "pad of some axes": at(18, node("Pad", "x p  a".replace("  ", " v ")), p=I64([1, 2]), v=np.float32(1), a=I64([-1])),
    "shape": at(
        15, node("Shape", "x", "s", start=1, end=3), node("Cast", "s", "y", to=TensorProto.FLOAT)
    ),
    "end of the shape": at(19, node("Shape", "x", "s", start=-2), node("Cast", "s", "y", to=TensorProto.FLOAT)),
    "greater or equal": at(16, node("GreaterOrEqual", "x c", "g"), node("Where", "g x c"), c=np.float32(0.1)),
    "less or equal": at(12, node("LessOrEqual", "x c", "g"), node("Where", "g x c"), c=np.float32(0.1)),
    "hard swish": at(14, node("HardSwish")),
    "mish": at(18, node("Mish")),
    "gelu": at(20, node("Gelu")),
    "layer norm": at(17, node("LayerNormalization", "x s b"), s=X[0, 0, 0], b=X[0, 0, 1]),
    "layer norm over two axes": at(
        17, node("LayerNormalization", "x s", axis=2, epsilon=0.1), s=np.ones((4, 6), np.float32)
    ),
    "reshape": at(14, node("Reshape", "x s", allowzero=1), s=I64([2, -1])),
    "resize": at(
        13, helper.make_node("Resize", ["x", "", "s"], ["y"], mode="nearest"), s=np.float32([1, 1, 2, 2])
    ),
    "resize to sizes": at(
        19, helper.make_node("Resize", ["x", "", "", "s"], ["y"], mode="linear"), s=I64([2, 3, 8, 9])
    ),
    "dropout": at(13, node("Dropout", "x r t"), r=np.float32(0.5), t=np.bool_(False)),
    "clip": at(13, node("Clip", "x l h"), l=np.float32(-0.5), h=np.float32(0.5)),
    "average pool": at(19, node("AveragePool", kernel_shape=[2, 2], dilations=[1, 1])),
    "cast": at(19, node("Cast", "x", "i", to=TensorProto.INT32, saturate=1), node("Cast", "i", to=TensorProto.FLOAT)),
    "constant": at(13, node("Constant", "", "c", value_floats=[1.0, 2.0, 3, 4, 5, 6]), node("Mul", "x c")),
    "constant axes": at(13, node("Constant", "", "a", value_ints=[1]), node("ReduceSum", "x a")),
    "batch norm": at(
        15, node("BatchNormalization", "x s s s v"), s=np.float32([1, 2, 3]), v=np.float32([1, 2, 3])
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_outputs_stay_equal(name: str) -> None:
    model = onnx.ModelProto.FromString(CASES[name].SerializeToString())
    opset = opset_of(model)
    if opset > 17 and opset > onnxruntime_opset():
        pytest.skip(f"this ONNX Runtime does not know opset {opset}")
    try:
        before = run(model)
    except onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException as error:
        pytest.skip(f"this ONNX Runtime cannot run the case itself: {error}")
    assert lower_opset(model).startswith(f"opset {opset} lowered to 11")
    assert opset_of(model) == 11
    onnx.checker.check_model(model)
    for one, other in zip(before, run(model), strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype
        np.testing.assert_allclose(other, one, rtol=0, atol=2e-6)


def onnxruntime_opset() -> int:
    """The highest opset this ONNX Runtime takes for sure."""
    from ptqbridge.model.check import runtime_limits

    return runtime_limits(8, 30)[1]


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (at(12, node("Einsum", "x x", equation="abcd,abcd->a")), r"opset 11 has no Einsum \(node 'the_Einsum'\)"),
        (at(14, node("Trilu")), "opset 11 has no Trilu"),
        (at(14, node("Reshape", "x s", allowzero=1), s=I64([0, 3])), "allowzero=1, unknown to opset 11"),
        (at(13, node("Shape", "x", "s"), node("ReduceSum", "x s")), "computes 's', a constant in opset 11"),
        (at(18, node("ReduceMean", "x s"), node("Shape", "x", "s")), "computes 's'"),
        (at(20, node("Gelu", approximate="tanh")), "tanh approximation"),
        (at(13, node("Dropout", "x r t"), r=np.float32(0.5), t=np.bool_(True)), "training mode"),
        (at(18, node("ScatterElements", "x i u", reduction="max"), i=I64([[[[0]]]]), u=X[:1, :1, :1, :1]), "max, unk"),
        (at(19, node("AveragePool", kernel_shape=[2, 2], dilations=[2, 2])), "dilations="),
        (at(17, node("LayerNormalization", "x s", "y m"), s=X[0, 0, 0]), "also gives mean"),
    ],
)  # fmt: skip
def test_what_opset_11_cannot_say(model: onnx.ModelProto, words: str) -> None:
    with pytest.raises(CannotLower, match=words):
        lower_opset(onnx.ModelProto.FromString(model.SerializeToString()))


def test_nothing_to_do() -> None:
    model = at(11, node("Relu"))
    before = model.SerializeToString()
    assert lower_opset(model) == ""
    assert lower_ir(model) == ""
    assert model.SerializeToString() == before


def test_names_of_nodes_and_other_domains_stay() -> None:
    model = at(
        17,
        helper.make_node("LayerNormalization", ["x", "s"], ["t"], name="the_LayerNormalization"),
        node("Relu", "t"),
        s=X[0, 0, 0],
    )
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    lower_opset(model)
    assert {"the_LayerNormalization", "the_Relu"} <= {item.name for item in model.graph.node}
    assert {(entry.domain, entry.version) for entry in model.opset_import} == {("", 11), ("com.microsoft", 1)}


def test_bodies_of_if_are_lowered_too() -> None:
    inner = helper.make_graph(
        [node("ReduceSum", "x a", "z")], "inner", [], [helper.make_value_info("z", onnx.TypeProto())]
    )
    whole = node("If", "c", "y", then_branch=inner, else_branch=inner)
    model = at(13, whole, a=I64([1]), c=np.bool_(True))
    before = run(model)
    lower_opset(model)
    np.testing.assert_array_equal(run(model)[0], before[0])


def test_ir_version() -> None:
    model = at(17, node("Relu"))
    model.ir_version = 11
    assert lower_ir(model) == "IR version 11 lowered to 9"
    assert model.ir_version == 9
    model.ir_version = 10
    model.graph.initializer.append(TensorProto(name="w", data_type=21, dims=[2]))
    with pytest.raises(CannotLower, match="weight 'w'"):
        lower_ir(model)
