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
    concatenated = concatenated_only(proto)
    order = [*index.inputs, *(name for node in index.nodes for name in node.output)]
    quantized = tuple(name for name in order if name in read)
    root = {name: _root(index, name, concatenated, read) for name in quantized}
    return HorizonPlacement(quantized, root)


def concatenated_only(proto: onnx.ModelProto) -> dict[str, str]:
    """Tensors that only a Concat reads -> its output: hb_mapper gives them the output's threshold."""
    index = GraphIndex(proto)
    return {
        name: node.output[0]
        for node in index.nodes
        if node.op_type == "Concat" and node.domain in ("", "ai.onnx")
        for name in index.dynamic_inputs(node)
        if index.only_reader(name) is not None
    }


def _rounded_inputs(index: GraphIndex, position: int) -> list[str]:
    node = index.nodes[position]
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


def _root(index: GraphIndex, name: str, concatenated: dict[str, str], read: set[str]) -> str:
    """Upwards through operators that keep the range; an input of Concat alone has the range of what it goes into."""
    if name in concatenated and concatenated[name] in read:
        return _root(index, concatenated[name], concatenated, read)
    while _made_by(index, name, KEEPS_RANGE):
        name = index.nodes[index.maker[name]].input[0]
    return name
