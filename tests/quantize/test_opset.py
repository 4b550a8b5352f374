"""Raising the opset: whatever is rewritten computes the same, whatever is not understood stays."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from ptqbridge.quantize.opset import TARGET, CannotRaise, raise_opset

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def model(
    opset: int,
    op: str,
    shape: list[int],
    constants: dict[str, object] | None = None,
    outputs: int = 1,
    **attributes: object,
) -> onnx.ModelProto:
    """One node on input ``x``; ``constants`` are its further inputs, in order ("" for one left out)."""
    tensors = {
        name: onnx.numpy_helper.from_array(np.asarray(value), name)
        for name, value in (constants or {}).items()
        if value is not None
    }
    inputs = ["x", *("" if value is None else name for name, value in (constants or {}).items())]
    names = ["y", *(f"y{item}" for item in range(1, outputs))]
    graph = helper.make_graph(
        [helper.make_node(op, inputs, names, name="node", **attributes)],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [onnx.ValueInfoProto(name=name) for name in names],
        list(tensors.values()),
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=7)


def run(proto: onnx.ModelProto) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[0].shape
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return session.run(None, {"x": x})


f, i = np.float32, np.int64
CASES = [
    *(model(opset, "Squeeze", [1, 3, 1, 2], axes=[0, 2]) for opset in (7, 11, 12)),
    model(12, "Squeeze", [1, 3, 1, 2]),
    model(11, "Squeeze", [3, 1], axes=[-1]),
    *(model(opset, "Unsqueeze", [3, 2], axes=[0, 3]) for opset in (7, 11, 12)),
    *(model(opset, "ReduceSum", [3, 2], axes=[1], keepdims=0) for opset in (7, 11, 12)),
    model(11, "ReduceSum", [3, 2]),
    *(model(opset, "Split", [6, 2], outputs=2, axis=0, split=[2, 4]) for opset in (7, 11, 12)),
    model(11, "Split", [6, 2], outputs=3, axis=0),
    *(model(opset, "Clip", [3, 4], min=-0.5, max=0.25) for opset in (7, 10)),
    model(10, "Clip", [3, 4], max=0.25),
    model(10, "Clip", [3, 4]),
    model(11, "Clip", [3, 4], {"low": None, "high": f(0.1)}),
    *(model(opset, "Pad", [1, 2, 3, 3], pads=[0, 0, 1, 2, 0, 0, 0, 1], value=1.5) for opset in (7, 10)),
    model(10, "Pad", [1, 2, 3, 3], pads=[0, 0, 1, 2, 0, 0, 0, 1], mode="reflect"),
    model(11, "Pad", [2, 3], {"pads": np.array([0, 1, 1, 0], i)}),
    *(model(opset, "Slice", [4, 5], starts=[1, 0], ends=[3, 9], axes=[1, 0]) for opset in (7, 9)),
    model(9, "Slice", [4, 5], starts=[1], ends=[-1]),
    model(10, "Slice", [4, 5], {"starts": np.array([1]), "ends": np.array([3])}),
    *(model(opset, "TopK", [3, 7], outputs=2, k=3, axis=1) for opset in (7, 9)),
    model(10, "TopK", [3, 7], {"k": np.array([2])}, outputs=2),
    *(model(opset, "Dropout", [3, 4], ratio=0.4) for opset in (7, 10, 11)),
    model(12, "Dropout", [3, 4], {"ratio": f(0.4)}),
    *(
        model(
            opset,
            "BatchNormalization",
            [2, 3, 4],
            {name: f([1, 2, position]) for position, name in enumerate("sbmv", 1)},
        )
        for opset in (7, 8, 9, 12)
    ),
    *(
        model(opset, "Upsample", [1, 2, 3, 3], mode=mode, scales=[1.0, 1.0, 2.0, 3.0])
        for opset in (7,)
        for mode in ("nearest", "linear")
    ),
    *(model(9, "Upsample", [1, 2, 3, 3], {"scales": f([1, 1, 2, 2])}, mode=mode) for mode in ("nearest", "linear")),
    *(
        model(10, "Resize", [1, 2, 6, 6], {"scales": f([1, 1, scale, scale])}, mode=mode)
        for mode in ("nearest", "linear")
        for scale in (2.0, 1.5, 0.5)
    ),
    model(
        11,
        "Resize",
        [1, 2, 4, 4],
        {"roi": np.zeros(0, f), "scales": f([1, 1, 2, 2])},
        mode="linear",
        coordinate_transformation_mode="align_corners",
    ),
    *(model(opset, op, [2, 3, 4]) for op in ("Softmax", "LogSoftmax") for opset in (7, 11, 12)),
    *(model(11, "Softmax", [2, 3, 4], axis=axis) for axis in (0, 1, 2, -1, -2)),
    model(11, "Softmax", [5, 10], axis=1),
    model(10, "MaxPool", [1, 2, 6, 6], kernel_shape=[2, 2], strides=[2, 2]),
    model(7, "AveragePool", [1, 2, 6, 6], kernel_shape=[3, 3], pads=[1, 1, 1, 1]),
    model(7, "Conv", [1, 2, 5, 5], {"w": np.ones((3, 2, 3, 3), f)}),
    model(7, "Flatten", [2, 3, 4], axis=2),
    model(7, "LeakyRelu", [2, 3]),
    model(9, "Scatter", [3, 3], {"indices": np.array([[0, 1, 2]]), "updates": f([[7, 8, 9]])}),
]


@pytest.mark.parametrize("proto", CASES, ids=[f"{m.graph.node[0].op_type}-{m.opset_import[0].version}" for m in CASES])
def test_same_outputs(proto: onnx.ModelProto) -> None:
    expected = run(proto)
    note = raise_opset(proto)
    assert note.startswith("opset ")
    assert [entry.version for entry in proto.opset_import] == [TARGET]
    for one, other in zip(expected, run(proto), strict=True):
        np.testing.assert_allclose(other, one, rtol=1e-6, atol=1e-6)


def test_nothing_to_do() -> None:
    for opset in (13, 17):
        proto = model(opset, "Relu", [2])
        assert raise_opset(proto) == ""
        assert proto.opset_import[0].version == opset


def test_nested_graphs_are_raised_too() -> None:
    def branch(name: str, axis: int) -> onnx.GraphProto:
        return helper.make_graph(
            [helper.make_node("Unsqueeze", ["x"], [name], axes=[axis])], name, [], [onnx.ValueInfoProto(name=name)]
        )

    graph = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["x"], ["sum"], keepdims=0),
            helper.make_node("Greater", ["sum", "zero"], ["c"]),
            helper.make_node("If", ["c"], ["y"], then_branch=branch("p", 0), else_branch=branch("q", 0)),
        ],
        "g",
        [helper.make_tensor_value_info("x", FLOAT, [2, 3])],
        [onnx.ValueInfoProto(name="y")],
        [helper.make_tensor("zero", FLOAT, [], [0.0])],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
    expected = run(proto)
    raise_opset(proto)
    np.testing.assert_array_equal(run(proto)[0], expected[0])


def test_other_domains_stay() -> None:
    proto = model(11, "Relu", [2])
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    raise_opset(proto)
    assert {(entry.domain, entry.version) for entry in proto.opset_import} == {("", 13), ("com.microsoft", 1)}


@pytest.mark.parametrize(
    ("proto", "reason"),
    [
        (model(11, "Hardmax", [2, 3]), "a changed definition"),
        (model(10, "Dropout", [2, 3], outputs=2), "a mask output"),
        (model(7, "BatchNormalization", [2, 3], {name: f([1, 1, 1]) for name in "sbmv"}, spatial=0), "spatial=0"),
        (model(7, "Upsample", [1, 2, 3, 3]), "no scales"),
    ],
)
def test_what_is_not_understood_stays(proto: onnx.ModelProto, reason: str) -> None:
    before = proto.SerializeToString()
    with pytest.raises(CannotRaise, match=f"node 'node' .* has {reason}"):
        raise_opset(proto)
    assert proto.SerializeToString() == before
