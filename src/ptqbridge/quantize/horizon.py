"""Scheme ``horizon``: the tensors that hb_mapper gives thresholds.

Observed with hb_mapper 1.24.3 (horizon_nn 1.1.0, march bayes-e), whose ``*_calibrated_model.onnx`` shows the same: what
an operator of the BPU reads is rounded; what a Relu, Clip or fused Add reads is not.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import onnx

from ptqbridge.quantize.graph import GraphIndex
from ptqbridge.quantize.sources import KEEPS_RANGE

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
POOLS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"})
ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Concat", "Resize"})
TABLES = frozenset(
    {"Sigmoid", "Tanh", "LeakyRelu", "PRelu", "Elu", "HardSigmoid", "HardSwish", "Softplus", "Exp", "Log", "Sqrt"}
)
"""Run as a lookup table over the 256 integers of their input."""


@dataclass(frozen=True)
class HorizonPlacement:
    """``quantized``: the tensors that are rounded, in graph order. ``root``: the tensor whose range each one takes."""

    quantized: tuple[str, ...]
    root: dict[str, str]

    @property
    def observed(self) -> list[str]:
        """The tensors whose ranges are needed, each once, in graph order."""
        return list(dict.fromkeys(self.root[name] for name in self.quantized))


def horizon_placement(proto: onnx.ModelProto, skip_nodes: Collection[str] = frozenset()) -> HorizonPlacement:
    """What is rounded in ``proto`` (as `prepare` returns it); nodes named in ``skip_nodes`` stay float, on the CPU."""
    index = GraphIndex(proto)
    read: set[str] = set()
    for position, node in enumerate(index.nodes):
        if node.domain not in ("", "ai.onnx") or node.name in skip_nodes:
            continue
        if node.op_type in WEIGHTED | POOLS | ELEMENTWISE | TABLES:
            read.update(_rounded_inputs(index, position))
    by_reader = ranged_by_reader(proto)
    order = [*index.inputs, *(name for node in index.nodes for name in node.output)]
    quantized = tuple(name for name in order if name in read)
    root = {name: _root(index, name, by_reader, read) for name in quantized}
    return HorizonPlacement(quantized, root)


def ranged_by_reader(proto: onnx.ModelProto) -> dict[str, str]:
    """Tensors that only a Concat or a LeakyRelu reads -> its output: hb_mapper gives them the output's threshold."""
    index = GraphIndex(proto)
    return {
        name: node.output[0]
        for node in index.nodes
        if node.op_type in ("Concat", "LeakyRelu") and node.domain in ("", "ai.onnx")
        for name in index.dynamic_inputs(node)
        if index.only_reader(name) is not None
    }


def calibrates_in_batches(proto: onnx.ModelProto) -> bool:
    """Whether hb_mapper can calibrate with 8 samples at a time; else it falls back to one.

    It cannot when an input's first dimension is not 1, and when a Reshape stays in its graph, whose shape it has made
    constant; one that only a Gemm reads goes away with it.
    """
    index = GraphIndex(proto)
    first = [value.type.tensor_type.shape.dim[:1] for value in proto.graph.input if value.name not in index.constants]
    if any(dim and dim[0].HasField("dim_value") and dim[0].dim_value != 1 for dim in first):
        return False
    for node in index.nodes:
        if node.op_type == "Reshape" and not index.is_float_constant(node.input[0]):
            reader = index.only_reader(node.output[0])
            if reader is None or index.nodes[reader].op_type != "Gemm":
                return False
    return True


def _rounded_inputs(index: GraphIndex, position: int) -> list[str]:
    node = index.nodes[position]
    if node.op_type == "Sigmoid" and node.output[0] in index.outputs:
        return []  # 16 bits wide
    if node.op_type in ("Add", "Sub", "Mul", "Concat", "MatMul"):
        names = list(dict.fromkeys(index.dynamic_inputs(node)))
    else:
        names = [name for name in node.input[:1] if name not in index.constants]
    if node.op_type == "Add" and len(names) == 2:
        # The later convolution takes the sum in, before anything is rounded.
        fused = [name for name in names if index.only_reader(name) is not None and _made_by(index, name, WEIGHTED)]
        if fused:
            names.remove(max(fused, key=lambda name: index.maker[name]))
    if node.op_type == "Mul" and len(names) == 2:
        for gate, value in (names, names[::-1]):  # x * Sigmoid(x) is one table
            if _made_by(index, gate, {"Sigmoid"}) and index.nodes[index.maker[gate]].input[0] == value:
                return [value]
    return names


def _made_by(index: GraphIndex, name: str, op_types: Collection[str]) -> bool:
    return name in index.maker and index.nodes[index.maker[name]].op_type in op_types


def _root(index: GraphIndex, name: str, by_reader: dict[str, str], read: set[str]) -> str:
    """Upwards through operators that keep the range; what only a Concat or LeakyRelu reads has its output's range."""
    if by_reader.get(name) in read:
        return _root(index, by_reader[name], by_reader, read)
    while _made_by(index, name, KEEPS_RANGE):
        name = index.nodes[index.maker[name]].input[0]
    return name
