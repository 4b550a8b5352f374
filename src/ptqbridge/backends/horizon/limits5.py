"""What hb_mapper refuses in a model, found in its structure: seconds of the tool saved, and all at once.

Every limit was seen with hb_mapper 1.24.3 (see docs/horizon.md); it stops at the first.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx

from ptqbridge.backends.horizon.lookup import NEWEST_IR, NEWEST_OPSET, OLDEST_OPSET
from ptqbridge.backends.horizon.marches import March
from ptqbridge.model.check import node_text
from ptqbridge.model.load import Model
from ptqbridge.model.walk import all_nodes

GEMM_CHANNELS: Mapping[str, int] = {"bayes": 8192}
"""Most input channels of a Gemm by march: its compiler stops above. The others' tool moves such a Gemm to the CPU."""
_ON_BPU = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
_DOMAINS = frozenset({"", "ai.onnx", "ai.onnx.ml", "ai.onnx.contrib", "horizon", "horizon.custom"})
"""Operator domains that hb_mapper looks into; of others it takes only PyOp, an operator written in Python."""
_TYPES = frozenset({"float32", "float64", "int8", "uint8", "int16", "int32", "int64"})


@dataclass(frozen=True)
class Found:
    """One finding in one line: what was expected and what is there. ``error``: the build cannot succeed."""

    text: str
    error: bool = True
    way_out: str = ""

    @property
    def line(self) -> str:
        """With the way out."""
        return f"{self.text}; {self.way_out}" if self.way_out else self.text


def model_findings(
    model: Model, march: March, shapes: Mapping[str, str], *, listed: bool, registered: bool = False
) -> Iterator[Found]:
    """What is wrong with ``model`` for ``march``. ``listed``: a YAML is written, with lists of input names.

    ``registered``: operators written in Python are registered with the tool.
    """
    where = f"model {model.path}"
    yield from _versions(model, where)
    yield from _inputs(model, where, shapes, listed=listed)
    proto = model.structure
    weights = {tensor.name: tensor for tensor in proto.graph.initializer}
    kinds = set()
    for node in all_nodes(proto):
        kinds.add(node.op_type)
        yield from _node(node, march, weights, where)
        if node.op_type == "PyOp" and not registered:
            yield Found(
                f"{where}: {node_text(node)} is a PyOp, an operator written in Python, and none is registered",
                way_out="--staticPlugins=FILE.py registers the operators of a file",
            )
    if not kinds & _ON_BPU:
        text = f"{where} has no Conv, ConvTranspose, Gemm or MatMul, and a BPU model needs one"
        yield Found(text, error=listed)
    yield from _weights(weights, where)


def _versions(model: Model, where: str) -> Iterator[Found]:
    ir = model.structure.ir_version
    way_out = "--convertOpset converts a copy of it"
    if not OLDEST_OPSET <= model.opset <= NEWEST_OPSET:
        wanted = f"{OLDEST_OPSET} to {NEWEST_OPSET}"
        yield Found(f"{where} has ONNX opset {model.opset}, and hb_mapper takes {wanted}", way_out=way_out)
    if ir > NEWEST_IR:
        yield Found(f"{where} has ONNX IR version {ir}, and hb_mapper takes at most {NEWEST_IR}", way_out=way_out)


def _inputs(model: Model, where: str, shapes: Mapping[str, str], *, listed: bool) -> Iterator[Found]:
    for spec in model.inputs:
        if spec.name not in shapes and any(isinstance(dim, str) for dim in spec.shape[1:]):
            yield Found(
                f"{where}: input {spec.text()} has dynamic dimensions, and a BPU model has one shape",
                way_out=f"--shapes={spec.name}:... gives it",
            )
        if spec.dtype not in _TYPES:
            yield Found(
                f"{where}: input {spec.text()} is {spec.dtype}, and hb_mapper takes {', '.join(sorted(_TYPES))}"
            )
        if listed and any(mark in spec.name for mark in " ;"):
            yield Found(f"{where}: the name of input {spec.name!r} has a blank or ';', which split lists in its YAML")


def _node(node: onnx.NodeProto, march: March, weights: Mapping[str, onnx.TensorProto], where: str) -> Iterator[Found]:
    what = f"{where}: {node_text(node)}"
    if node.domain not in _DOMAINS and node.op_type != "PyOp":
        yield Found(f"{what} is {node.domain}:{node.op_type}, and hb_mapper takes operators of the ONNX standard")
    elif node.op_type == "Loop":
        yield Found(f"{what} is a Loop, which hb_mapper cannot convert")
    elif node.op_type == "NonZero":
        yield Found(f"{what} is a NonZero, which neither the BPU nor the board's runtime has")
    if node.op_type not in _ON_BPU or len(node.input) < 2:
        return
    weight = weights.get(node.input[1])
    if weight is None:
        return
    if weight.data_type in (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16):
        yield Found(
            f"{what} ({node.op_type}) has 16-bit weights, and hb_mapper takes float32", way_out="export it in float32"
        )
    if node.op_type.startswith("Conv") and len(weight.dims) > 4:
        yield Found(f"{what} is a {node.op_type} over {len(weight.dims) - 2} dimensions, and hb_mapper takes at most 2")
    most = GEMM_CHANNELS.get(march.name)
    if most and node.op_type == "Gemm" and len(weight.dims) == 2:
        turned = any(item.name == "transB" and item.i for item in node.attribute)
        channels = weight.dims[1 if turned else 0]
        if channels > most:
            yield Found(f"{what} (Gemm) has {channels} input channels, and the compiler for {march.name} takes {most}")


def _weights(weights: Mapping[str, onnx.TensorProto], where: str) -> Iterator[Found]:
    """NaN and inf among the weights that lie in the model file itself."""
    for name, tensor in weights.items():
        if tensor.data_type != onnx.TensorProto.FLOAT or not tensor.raw_data:
            continue
        values = np.frombuffer(tensor.raw_data, "<f4")
        with np.errstate(invalid="ignore", over="ignore"):
            doubtful = not np.isfinite(values.dot(values)) if values.size else False
        if doubtful and not np.isfinite(values).all():  # a sum of squares may also be too large for float32
            yield Found(f"{where}: weight {name!r} holds NaN or inf")
