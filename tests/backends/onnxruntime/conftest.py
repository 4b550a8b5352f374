"""Small models for the CPU backend's tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ptqbridge.invocation import understand
from ptqbridge.plan import Plan


@pytest.fixture
def plan_of() -> Callable[..., Plan]:
    """The CPU plan of a command line."""
    from ptqbridge.backends.onnxruntime.plan import plan

    def make(*argv: str, command: str = "build") -> Plan:
        invocation = understand(argv, command=command, default_target="cpu")
        assert invocation is not None
        return plan(invocation.requests[0])

    return make


def conv_net(batch: int | str = 1, size: int | str = 8, channels: int = 8) -> onnx.ModelProto:
    """Conv, Relu, Conv, Relu, GlobalAveragePool, Flatten, Gemm with seeded weights; opset 13."""
    draw = np.random.default_rng(0)

    def weight(name: str, *shape: int) -> onnx.TensorProto:
        return numpy_helper.from_array(draw.normal(0, 0.4, shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["c1"], "conv1", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c1"], ["r1"], "relu1"),
        helper.make_node("Conv", ["r1", "w2", "b2"], ["c2"], "conv2", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c2"], ["r2"], "relu2"),
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "w3", "b3"], ["y"], "fc", transB=1),
    ]
    initializers = [
        weight("w1", channels, 3, 3, 3),
        weight("b1", channels),
        weight("w2", channels, channels, 3, 3),
        weight("b2", channels),
        weight("w3", 4, channels),
        weight("b3", 4),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 3, size, size])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 4])],
        initializers,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


@pytest.fixture
def net(tmp_path: Path) -> Path:
    """A static network on disk."""
    path = tmp_path / "net.onnx"
    onnx.save(conv_net(), str(path))
    return path


@pytest.fixture
def dynamic_net(tmp_path: Path) -> Path:
    """A network with dynamic batch and size."""
    path = tmp_path / "dynamic.onnx"
    onnx.save(conv_net("n", "s"), str(path))
    return path


@pytest.fixture
def calib(tmp_path: Path) -> Path:
    """Sixteen samples as .npy files."""
    folder = tmp_path / "calib"
    folder.mkdir()
    draw = np.random.default_rng(1)
    for index in range(16):
        np.save(folder / f"{index:02d}.npy", draw.normal(0, 1, (1, 3, 8, 8)).astype(np.float32))
    return folder


def metadata(path: Path) -> dict[str, str]:
    """Our metadata properties of an artifact."""
    entries = onnx.load(str(path)).metadata_props
    return {entry.key.removeprefix("ptqbridge."): entry.value for entry in entries}


@pytest.fixture
def properties() -> Callable[[Path], dict[str, str]]:
    """Reads an artifact's metadata."""
    return metadata


@pytest.fixture
def make_net() -> Callable[..., onnx.ModelProto]:
    """Makes a network of another shape."""
    return conv_net


@pytest.fixture
def write_model(tmp_path: Path) -> Callable[..., str]:
    """Writes a model of these nodes and returns its path; inputs and outputs are (name, type, shape)."""

    def write(
        nodes: list[onnx.NodeProto],
        inputs: list[tuple[str, int, Any]],
        outputs: list[tuple[str, int, Any]],
        *,
        constants: list[onnx.TensorProto] | None = None,
        metadata: Mapping[str, str] | None = None,
        file: str = "model.onnx",
    ) -> str:
        infos = [[helper.make_tensor_value_info(*entry) for entry in side] for side in (inputs, outputs)]
        graph = helper.make_graph(nodes, "g", *infos, initializer=constants or [])
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
        helper.set_model_props(model, dict(metadata or {}))
        path = tmp_path / file
        path.write_bytes(model.SerializeToString())
        return str(path)

    return write


@pytest.fixture
def doubler(write_model: Callable[..., str]) -> Callable[..., str]:
    """Writes y = 2 x for x: float32[batch, 3]."""

    def write(metadata: Mapping[str, str] | None = None) -> str:
        two = helper.make_tensor("two", TensorProto.FLOAT, [], [2.0])
        node = helper.make_node("Mul", ["x", "two"], ["y"], name="double")
        ends = [(name, TensorProto.FLOAT, ["batch", 3]) for name in "xy"]
        return write_model([node], ends[:1], ends[1:], constants=[two], metadata=metadata)

    return write


@pytest.fixture
def looper(write_model: Callable[..., str]) -> str:
    """A model with a Loop of 3 rounds between two other nodes; its body has a node of its own."""
    value, real = helper.make_tensor_value_info, TensorProto.FLOAT
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["still"], name="keep"),
            helper.make_node("Add", ["a", "a"], ["b"], name="inner"),
        ],
        "body",
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("a", real, [4])],
        [value("still", TensorProto.BOOL, []), value("b", real, [4])],
    )
    nodes = [
        helper.make_node("Sqrt", ["x"], ["s"], name="before"),
        helper.make_node("Loop", ["three", "", "s"], ["l"], name="loop", body=body),
        helper.make_node("Exp", ["l"], ["y"], name="after"),
    ]
    three = helper.make_tensor("three", TensorProto.INT64, [], [3])
    return write_model(nodes, [("x", real, [4])], [("y", real, [4])], constants=[three], file="loop.onnx")
