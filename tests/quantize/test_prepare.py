"""Preparing: names, order, inputs, and the way back when outputs would change."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, parser

from ptqbridge.errors import InputError
from ptqbridge.quantize import prepare as module
from ptqbridge.quantize.prepare import prepare

X = np.random.default_rng(0).standard_normal((1, 3, 6, 6)).astype(np.float32)


def model(body: str, opset: int = 11, inputs: str = "float[1,3,6,6] x", **constants: np.ndarray) -> onnx.ModelProto:
    proto = parser.parse_model(
        f'<ir_version: 6, opset_import: ["": {opset}]> g ({inputs}) => (float[a,b,c,d] y) {{{body}}}'
    )
    proto.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    return proto


def run(proto: onnx.ModelProto) -> np.ndarray:
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": X})[0]


def conv_norm(opset: int = 11) -> onnx.ModelProto:
    random = np.random.default_rng(1)
    constants = {name: random.random(4).astype(np.float32) for name in "bsomv"}
    return model(
        "t = Conv(x, w, b) u = BatchNormalization(t, s, o, m, v) y = Relu(u)",
        opset,
        w=random.standard_normal((4, 3, 3, 3)).astype(np.float32),
        **constants,
    )


def test_all_steps() -> None:
    proto = conv_norm()
    before = proto.SerializeToString()
    prepared = prepare(proto, {"x": X})
    assert proto.SerializeToString() == before
    assert prepared.notes == (
        "3 nodes without a name got one",
        "opset 11 raised to 13",
        "1 BatchNormalization folded into the Conv before",
    )
    assert [node.name for node in prepared.proto.graph.node] == ["Conv_t", "Relu_y"]
    np.testing.assert_allclose(run(prepared.proto), run(proto), rtol=1e-4, atol=1e-5)
    again = prepare(prepared.proto)
    assert again.notes == ()
    assert again.proto == prepared.proto


def test_used_names_are_told_apart() -> None:
    proto = model("t = Relu(x) u = Neg(t) y = Abs(u)", 13)
    for node, name in zip(proto.graph.node, ("a", "a", "a_2"), strict=True):
        node.name = name
    prepared = prepare(proto)
    assert [node.name for node in prepared.proto.graph.node] == ["a", "a_3", "a_2"]
    assert prepared.notes == ("1 nodes with a name used before got another",)


def test_order() -> None:
    proto = model("t = Relu(x) u = Neg(t) y = Abs(u)", 13)
    nodes = [helper.make_node(node.op_type, node.input, node.output) for node in proto.graph.node][::-1]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    prepared = prepare(proto)
    assert "nodes put in topological order" in prepared.notes
    assert [node.op_type for node in prepared.proto.graph.node] == ["Relu", "Neg", "Abs"]


def test_weights_are_no_inputs() -> None:
    proto = model("y = Add(x, w)", inputs="float[1,3,6,6] x, float[1] w", w=np.ones(1, np.float32))
    proto.ir_version = 3
    prepared = prepare(proto)
    assert [value.name for value in prepared.proto.graph.input] == ["x"]
    assert "1 weights are no longer listed as inputs" in prepared.notes
    np.testing.assert_array_equal(run(prepared.proto), X + 1)


def test_opset_that_cannot_be_raised() -> None:
    proto = model("t = Hardmax(x) y = Relu(t)")
    notes = prepare(proto).notes
    assert any(note.startswith("opset not raised to 13, since node 'Hardmax_t' (Hardmax)") for note in notes)
    assert any("one scale per weight" in note for note in notes)


def test_wrong_folding_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(proto: onnx.ModelProto) -> str:
        for tensor in proto.graph.initializer:
            if tensor.name == "w":
                tensor.raw_data = (numpy_helper.to_array(tensor) * 2).tobytes()
        return "folded wrongly"

    monkeypatch.setattr(module, "fold_into_conv", wrong)
    proto = conv_norm()
    assert "folded wrongly" in prepare(proto).notes
    prepared = prepare(proto, {"x": X})
    assert prepared.notes[-1] == "nothing folded into Conv: the outputs would have changed"
    assert "folded wrongly" not in prepared.notes
    np.testing.assert_allclose(run(prepared.proto), run(proto), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("op", ["QuantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "ConvInteger"])
def test_quantized_models_are_refused(op: str) -> None:
    proto = model("y = Relu(x)")
    proto.graph.node[0].op_type, proto.graph.node[0].name = op, "first"
    with pytest.raises(InputError, match=f"quantized already: node 'first' is {op}"):
        prepare(proto)


def test_type_of_outputs_counts() -> None:
    assert not module._close([np.zeros(2, np.float32)], [np.zeros(2, np.float64)])
    assert not module._close([np.zeros(2, np.float32)], [np.zeros(3, np.float32)])
    assert module._close([np.array([np.nan, 100.0])], [np.array([np.nan, 100.9])])
    assert not module._close([np.array([1.0, 100.0])], [np.array([1.0, 101.1])])


def test_sample_that_does_not_fit() -> None:
    with pytest.raises(InputError, match="cannot run the float model on the first sample") as caught:
        prepare(conv_norm(), {"x": X[:, :2]})
    assert "\n" not in caught.value.message
    assert caught.value.hint == ""


def test_noise_as_an_index_is_hinted_at(capfd: pytest.CaptureFixture[str]) -> None:
    rows = helper.make_tensor("rows", TensorProto.FLOAT, [2, 1], [1.0, 2.0])
    graph = helper.make_graph(
        [helper.make_node("Gather", ["rows", "ids"], ["y"])],
        "embedding",
        [helper.make_tensor_value_info("ids", TensorProto.INT64, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1])],
        [rows],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)
    with pytest.raises(InputError, match="cannot run the float model") as caught:
        prepare(proto, {"ids": np.array([-100])})
    assert caught.value.hint.startswith("ids: without --calibData")
    assert capfd.readouterr().err == ""
