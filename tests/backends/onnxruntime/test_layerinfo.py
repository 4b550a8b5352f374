"""Layer information of real graphs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from ptqbridge.backends.onnxruntime.layerinfo import layer_info
from ptqbridge.backends.onnxruntime.session import SessionPolicy
from ptqbridge.measure.export import layer_info_text


def test_details_of_the_example_network(root: Path) -> None:
    path = str(root / "examples/mynet/mynet_dynamic.onnx")
    image = {"input1": np.zeros((2, 3, 28, 28), np.float32)}
    layers, bindings = layer_info(path, SessionPolicy(level="extended"), "detailed", ["input1", "output1"], image)
    names, _ = layer_info(path, SessionPolicy(level="extended"), "names", [], {})
    assert [layer["Name"] for layer in layers if isinstance(layer, dict)] == names
    content = json.loads(layer_info_text(layers, bindings))
    assert content["Bindings"] == ["input1", "output1"]
    for layer in content["Layers"]:
        for tensor in (*layer["Inputs"], *layer["Outputs"]):
            assert tensor["Dimensions"][0] == 2
            assert tensor["Format/Datatype"] == "Row major linear FP32"
    first, last = content["Layers"][0], content["Layers"][-1]
    assert [tensor["Name"] for tensor in first["Inputs"]] == ["input1"]
    assert first["Attributes"]["kernel_shape"] == [3, 3]
    assert first["Weights"] == {"Type": "Float", "Count": 32 * 3 * 3 * 3}
    assert first["Bias"] == {"Type": "Float", "Count": 32}
    assert last["Outputs"][0]["Dimensions"] == [2, 10]


def test_blocked_layouts_are_told_apart(root: Path) -> None:
    path = str(root / "examples/mynet/mynet.onnx")
    image = {"input1": np.zeros((1, 3, 28, 28), np.float32)}
    layers, _ = layer_info(path, SessionPolicy(level="all"), "detailed", [], image)
    words = {
        tensor["Name"]: tensor["Format/Datatype"]
        for layer in layers
        if isinstance(layer, dict)
        for tensor in (*layer["Inputs"], *layer["Outputs"])
    }
    plain = [name for name, word in words.items() if word == "Row major linear FP32"]
    assert {"input1", "output1"} <= set(plain)
    blocked = {word for name, word in words.items() if name not in plain}
    # Which processors get blocked kernels is ONNX Runtime's choice.
    assert blocked <= {"Channel blocked FP32 (NCHWc)"}


def test_layers_without_a_name_are_called_by_what_they_make(write_model: Callable[..., str]) -> None:
    weights = numpy_helper.from_array(np.ones((3, 2), np.float32), "w")
    nodes = [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Softmax", ["h"], ["y"])]
    path = write_model(
        nodes, [("x", TensorProto.FLOAT, [1, 3])], [("y", TensorProto.FLOAT, [1, 2])], constants=[weights]
    )
    names, _ = layer_info(path, SessionPolicy(level="basic"), "names", [], {})
    assert names == ["MatMul -> h", "Softmax -> y"]


def test_a_loop_is_one_layer(looper: str) -> None:
    feeds = {"x": np.ones(4, np.float32)}
    layers, _ = layer_info(looper, SessionPolicy(level="basic"), "detailed", [], feeds)
    assert [layer["LayerType"] for layer in layers if isinstance(layer, dict)] == ["Sqrt", "Loop", "Exp"]
    assert "body" not in layers[1]["Attributes"]  # type: ignore[index]
