"""Fixing dynamic dimensions."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
from onnx import helper

from ptqbridge.quantize.freeze import CannotFreeze, freeze_shapes


def two_inputs(first: list[Any], second: list[Any]) -> onnx.ModelProto:
    """y = relu(a) + b, with a value_info that becomes stale."""
    values = [helper.make_tensor_value_info(*entry) for entry in (("a", 1, first), ("b", 1, second), ("y", 1, first))]
    nodes = [helper.make_node("Relu", ["a"], ["r"]), helper.make_node("Add", ["r", "b"], ["y"])]
    stale = [helper.make_tensor_value_info("r", 1, first)]
    graph = helper.make_graph(nodes, "g", values[:2], values[2:], value_info=stale)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=8)


def shapes(model: onnx.ModelProto) -> dict[str, list[int | str]]:
    values = [*model.graph.input, *model.graph.output]
    return {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values
    }


def test_the_batch_becomes_one() -> None:
    model = two_inputs(["N", 3], ["N", 3])
    assert freeze_shapes(model, {}) == "dynamic dimensions fixed: a:1x3, b:1x3"
    assert shapes(model) == {"a": [1, 3], "b": [1, 3], "y": [1, 3]}
    assert not model.graph.value_info
    onnx.checker.check_model(model, full_check=True)


def test_a_name_stands_for_one_size() -> None:
    model = two_inputs(["N", "W"], ["N", "W"])
    assert freeze_shapes(model, {"b": (4, 5)}) == "dynamic dimensions fixed: a:4x5, b:4x5"
    assert shapes(model)["y"] == [4, 5]


def test_zero_is_dynamic_too() -> None:
    model = two_inputs([0, 3], [1, 3])
    assert freeze_shapes(model, {}) == "dynamic dimensions fixed: a:1x3"


def test_nothing_to_do() -> None:
    model = two_inputs([2, 3], [2, 3])
    before = model.SerializeToString()
    assert freeze_shapes(model, {"a": (2, 3)}) == ""
    assert model.SerializeToString() == before


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({}, r"input 'a': nothing says how large dimension 1 \(W\) is"),
        ({"a": (1, 2, 3)}, "has 2 dimensions, the shape given has 3"),
        ({"a": (1, 5), "b": (1, 6)}, "dimension 'W' cannot be both 5 and 6"),
        ({"c": (1, 5)}, "there is no input 'c'; the inputs are a, b"),
    ],
)
def test_refused(given: dict[str, tuple[int, ...]], words: str) -> None:
    model = two_inputs(["N", "W"], ["N", "W"])
    before = model.SerializeToString()
    with pytest.raises(CannotFreeze, match=words):
        freeze_shapes(model, given)
    assert model.SerializeToString() == before


def test_fixed_dimensions_stay() -> None:
    with pytest.raises(CannotFreeze, match="has a fixed dimension 3 where 4 was given"):
        freeze_shapes(two_inputs(["N", 3], ["N", 3]), {"a": (1, 4)})
