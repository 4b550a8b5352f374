"""A small valid model that the tests of this folder damage."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper


@pytest.fixture
def tiny() -> onnx.ModelProto:
    """output = Relu(input x weight + bias), input [batch, 4], weight [4, 300]."""
    weight = np.linspace(-1, 1, 1200, dtype=np.float32).reshape(4, 300)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["input", "weight"], ["product"], name="multiply"),
            helper.make_node("Add", ["product", "bias"], ["sum"], name="add"),
            helper.make_node("Relu", ["sum"], ["output"], name="relu"),
        ],
        "tiny",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, ["batch", 4])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 300])],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(np.ones(300, np.float32), "bias")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.fixture
def saved(tiny: onnx.ModelProto, tmp_path: Path) -> Path:
    """The small model in a file."""
    path = tmp_path / "tiny.onnx"
    path.write_bytes(tiny.SerializeToString())
    return path
