"""Small float models and exact ranges for the tests of placement, Q/DQ and report."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper, parser

from ptqbridge.quantize.prepare import prepare
from ptqbridge.quantize.ranges import Ranges, TensorRange

Arrays = Mapping[str, Any]


@pytest.fixture
def build() -> Callable[..., onnx.ModelProto]:
    """build(body, inputs, outputs, opset, **constants): a prepared model in onnx.parser's notation.

    A constant given as a shape is filled with seeded normal values, scaled by the fan-in.
    """

    def make(
        body: str,
        inputs: str = "float[1,8,16,16] x",
        outputs: str = "float[a,b,c,d] y",
        opset: int = 13,
        **constants: Any,
    ) -> onnx.ModelProto:
        random = np.random.default_rng(5)
        proto = parser.parse_model(
            f'<ir_version: 8, opset_import: ["": {opset}]> g ({inputs}) => ({outputs}) {{{body}}}'
        )
        for name, value in constants.items():
            if isinstance(value, tuple):
                scale = np.prod(value[1:]) ** -0.5 if len(value) > 1 else 0.1
                value = (random.standard_normal(value) * scale).astype(np.float32)
            proto.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return prepare(proto).proto

    return make


@pytest.fixture
def run() -> Callable[..., list[Any]]:
    """run(proto, feed, plain=False): the outputs; ``plain`` executes node by node, without any fusion."""

    def execute(proto: onnx.ModelProto, feed: Arrays, plain: bool = False) -> list[Any]:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if plain:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
        outputs: list[Any] = session.run(None, dict(feed))
        return outputs

    return execute


@pytest.fixture
def measure(run: Callable[..., list[Any]]) -> Callable[..., Ranges]:
    """measure(proto, tensors, feed): the exact ranges of ``tensors`` on one feed."""

    def find(proto: onnx.ModelProto, tensors: Sequence[str], feed: Arrays) -> Ranges:
        wide = onnx.ModelProto()
        wide.CopyFrom(proto)
        del wide.graph.output[:]
        inner = [name for name in tensors if name not in feed]
        wide.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
        values = dict(feed)
        if inner:
            values |= dict(zip(inner, run(wide, feed), strict=True))
        tensor_ranges = {
            name: TensorRange(float(values[name].min()), float(values[name].max()), "max") for name in tensors
        }
        return Ranges("max", "onnxruntime", 1, "", "", {}, tensor_ranges)

    return find
