"""2:4 sparsity: two of four along the summed axis, the largest kept."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ptqbridge.quantize.prune import prune_two_of_four


@pytest.mark.parametrize(
    ("op", "shape", "axis", "attributes"),
    [
        ("Conv", (6, 8, 3, 3), 1, {}),
        ("Gemm", (5, 8), 1, {"transB": 1}),
        ("Gemm", (8, 5), 0, {}),
        ("MatMul", (8, 5), 0, {}),
    ],
)
def test_two_of_four(op: str, shape: tuple[int, ...], axis: int, attributes: dict[str, int]) -> None:
    weight = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    node = helper.make_node(op, ["x", "w"], ["y"], "n", **attributes)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    model = helper.make_model(
        helper.make_graph([node], "g", ends[:1], ends[1:], [numpy_helper.from_array(weight, "w")])
    )
    assert prune_two_of_four(model) == 1
    pruned = np.moveaxis(numpy_helper.to_array(model.graph.initializer[0]), axis, -1).reshape(-1, 4)
    groups = np.moveaxis(weight, axis, -1).reshape(-1, 4)
    assert ((pruned != 0).sum(axis=1) == 2).all()
    for found, was in zip(pruned, groups, strict=True):
        kept = found != 0
        assert (found[kept] == was[kept]).all()
        assert np.abs(was[kept]).min() >= np.abs(was[~kept]).max()


def test_axes_that_hardware_cannot_use_are_left_alone() -> None:
    weight = onnx.numpy_helper.from_array(np.ones((4, 3, 3, 3), np.float32), "w")
    node = helper.make_node("Conv", ["x", "w"], ["y"], "n")
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in ("x", "y")]
    model = helper.make_model(helper.make_graph([node], "g", ends[:1], ends[1:], [weight]))
    assert prune_two_of_four(model) == 0
