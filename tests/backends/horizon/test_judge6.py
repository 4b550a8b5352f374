"""What was asked of hb_compile against what its node table says."""

from __future__ import annotations

from typing import Any

from ptqbridge.backends.horizon.judge6 import asked_got, model_remarks
from ptqbridge.backends.horizon.logs6 import Node


def node(name: str, kind: str, dtype: str, on: str = "BPU") -> Node:
    return Node(name, kind, on, 2.0, 0.99, 0.99, dtype)


NODES = (
    node("a", "Conv", "int8"),
    node("b", "Softmax", "int16"),
    node("c", "Softmax", "int8"),
    node("d", "Relu", "int8", "NULL"),
    node("e", "Gather", "float32", "CPU"),
)


def rows(model: dict[str, Any], quant: Any) -> list[tuple[str, str, str, bool]]:
    config = {"model_parameters": model, "calibration_parameters": {"quant_config": quant}}
    return [(row.layer, row.asked, row.got, row.met) for row in asked_got(config, NODES)]


def test_operator_types_and_nodes() -> None:
    quant = {"op_config": {"Softmax": {"qtype": "int16"}, "Relu": {"qtype": "int16"}}}
    assert rows({}, quant) == [("b", "int16", "int16", True), ("c", "int16", "int8", False)]
    quant["node_config"] = {"c": {"qtype": "int8"}, "d": {"qtype": "int8"}}
    assert rows({}, quant) == [
        ("b", "int16", "int16", True),
        ("c", "int8", "int8", True),
        ("d", "int8", "fused into another node", False),
    ]


def test_node_info_in_both_forms_wins() -> None:
    quant = {"node_config": {"a": {"OutputType": "int16"}}}
    assert rows({"node_info": "a:int8;x:int16"}, quant) == [
        ("a", "int8", "int8", True),
        ("x", "int16", "not a node of the built model", False),
    ]
    assert rows({"node_info": {"e": {"ON": "CPU"}}}, None) == [("e", "CPU", "CPU", True)]


def test_a_type_for_the_whole_model() -> None:
    def config(word: str) -> dict[str, Any]:
        return {"calibration_parameters": {"quant_config": {"model_config": {"all_node_type": word}}}}

    assert model_remarks(config("int16"), NODES) == [
        "int16 was asked for the whole model; 2 of 3 nodes on the BPU differ: a, c"
    ]
    assert model_remarks(config("int8"), NODES) == model_remarks({}, NODES) == []
    assert model_remarks(config("int16"), NODES[1:2]) == []
