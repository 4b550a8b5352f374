"""Scheme ``horizon``: the tensors that hb_mapper gives thresholds.

Observed with hb_mapper 1.24.3 (horizon_nn 1.1.0, march bayes-e), whose ``*_calibrated_model.onnx`` shows the same: what
an operator of the BPU reads is rounded; what a Relu, Clip or fused Add reads is not.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import onnx

from ptqbridge.quantize.graph import GraphIndex, attribute
from ptqbridge.quantize.ranges import TensorRange
from ptqbridge.quantize.sources import KEEPS_RANGE, GraphFacts

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
POOLS = frozenset(
    {"MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMax", "ReduceMean", "ReduceSum"}
)
ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Max", "Concat", "Resize", "Slice", "Split"})
TABLES = frozenset(
    {
        "Sigmoid", "Tanh", "LeakyRelu", "PRelu", "Elu", "Selu", "HardSigmoid", "HardSwish", "Softplus", "Softsign",
        "Exp", "Log", "Sqrt", "Pow", "Reciprocal", "Abs", "Sign", "Floor", "Ceil", "Round", "Erf", "Sin", "Cos", "Tan",
        "Atan",
    }
)  # fmt: skip
"""Run as a lookup table over the 256 integers of their input."""

FIXED = {"Sigmoid": (5.498970031738281, 0.9959256649017334), "HardSigmoid": (3.0, 1.0)}
"""Operator -> thresholds of its input, when nothing else reads that, and of its output, whatever the data."""

FIXED_WIDE = {**FIXED, "Sigmoid": (11.090310096740723, 0.9999847412109375)}
"""The same for 16 bits: where the model ends."""

_GATES = frozenset(
    {
        ("Sigmoid",), ("HardSigmoid",), ("Softplus", "Tanh"), ("Add", "Clip"), ("Add", "Clip", "Div"),
        ("Add", "Clip", "Mul"), ("Div", "Erf", "Add"), ("Mul", "Erf", "Add"),
    }
)  # fmt: skip
"""The operators of f where x * f(x) becomes one table."""

_SHARING_BACKWARDS = frozenset({"Concat", "LeakyRelu", "Max", "PRelu", "Resize"})
_FUSING = WEIGHTED | {"BatchNormalization"}
_POOLED_BY_CONVOLUTION = 7  # the largest such kernel


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
    graph = _Graph(proto)
    read: set[str] = set()
    for node in graph.index.nodes:
        if node.domain in ("", "ai.onnx") and node.name not in skip_nodes:
            read.update(graph.rounded_inputs(node))
    quantized = tuple(name for name in graph.names() if name in read - graph.inside)
    return HorizonPlacement(quantized, {name: graph.root(name) for name in quantized})


def shared_ranges(proto: onnx.ModelProto) -> dict[str, str]:
    """Tensor -> the other one whose threshold hb_mapper gives it, in graph order.

    What moves, selects or cuts values keeps the range of its input. What only a Concat, Max, LeakyRelu, PRelu, Resize
    or Clip to [-a, a] reads has that of the output, also through what keeps ranges (but not through a cut or Split);
    and a convolution has that of the BatchNormalization or factor that becomes part of it.
    """
    graph = _Graph(proto)
    return {name: root for name in graph.names() if (root := graph.root(name)) != name}


def fixed_ranges(proto: onnx.ModelProto) -> dict[str, TensorRange]:
    """The ranges that hb_mapper gives whatever the data are: around a Sigmoid or HardSigmoid."""
    return _Graph(proto).fixed


class _Graph:
    """What hb_mapper makes of ``proto``: ``kept``, tensors that have the range of their operator's input; ``behind``,
    those that have the range of the output of the operator that reads them; ``inside``, those of fused operators."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.index = GraphIndex(proto)
        self._facts = GraphFacts(proto)
        self.kept: dict[str, str] = {}
        self.behind: dict[str, str] = {}
        self.inside: set[str] = set()
        self.fixed: dict[str, TensorRange] = {}
        nodes = [node for node in self.index.nodes if node.domain in ("", "ai.onnx")]
        for node in nodes:
            if self._keeps_range(node):
                self.kept.update(dict.fromkeys(node.output, node.input[0]))
            self.inside.update(self._fused(node))
        for node in nodes:
            if node.op_type in FIXED:
                self._fix(node)
        for name in reversed(self.names()):
            readers = [self.index.nodes[position] for position in self.index.readers.get(name, ())]
            ends = {self._end(name, reader) for reader in readers}
            stays = name in self.fixed or (name in self.kept and self._made_by(name, {"Relu", "Clip", "Split"}))
            if len(ends) == 1 and name not in self.index.pinned and not stays and (end := ends.pop()):
                self.behind[name] = end

    def names(self) -> list[str]:
        """Inputs and results of all nodes, in graph order."""
        return [*self.index.inputs, *(name for node in self.index.nodes for name in node.output if name)]

    def dynamic(self, node: onnx.NodeProto) -> list[str]:
        """The inputs of ``node`` that are no constants, each once."""
        names = dict.fromkeys(self.index.dynamic_inputs(node))
        return [name for name in names if not self._made_by(name, {"Constant"})]

    def root(self, name: str) -> str:
        """The tensor whose range ``name`` takes, maybe itself."""
        while name not in self.fixed and (name in self.behind or name in self.kept):
            name = self.behind.get(name) or self.kept[name]
        return name

    def rounded_inputs(self, node: onnx.NodeProto) -> list[str]:
        """What the BPU reads as integers."""
        if node.op_type == "Sigmoid" and node.output[0] in self.index.outputs and not self._read(node.output[0]):
            return []  # 16 bits wide
        if node.op_type in ("Relu", "Clip"):
            return [] if self._fused_cut(node) else self.dynamic(node)[:1]
        if node.op_type not in _FUSING | POOLS | ELEMENTWISE | TABLES:
            return []
        if node.op_type == "BatchNormalization" and self._folded(node.input[0], node):
            return []
        names = self.dynamic(node)
        if node.op_type not in ("Add", "Sub", "Mul", "Div", "Max", "Concat", "MatMul"):
            names = [name for name in node.input[:1] if name in names]
        fused = self._taken_in(node)
        return [name for name in names if name != fused]

    def _end(self, name: str, reader: onnx.NodeProto) -> str | None:
        """The tensor behind ``reader`` whose range ``name`` takes, if any."""
        result: str = reader.output[0]
        if reader.domain not in ("", "ai.onnx"):
            return None
        if reader.op_type in _SHARING_BACKWARDS or self._is_symmetric_clip(reader) or self._folded(name, reader):
            return result
        return self.behind.get(result) if result in self.kept else None

    def _folded(self, name: str, reader: onnx.NodeProto) -> bool:
        """Whether ``reader`` becomes part of the convolution (an average may be one) that makes ``name``."""
        scales = reader.op_type in ("Mul", "Div", "Add", "Sub") and len(self.dynamic(reader)) == 1
        if self._made_by(name, {"AveragePool"}) and name not in self.kept:
            return reader.op_type == "BatchNormalization" and self.index.only_reader(name) is not None
        return (scales or reader.op_type == "BatchNormalization") and self._made_by(name, {"Conv", "ConvTranspose"})

    def _taken_in(self, node: onnx.NodeProto) -> str | None:
        """Of a sum's two inputs the one whose convolution takes the sum in before anything is rounded: the later."""
        names = self.dynamic(node)
        if node.op_type != "Add" or len(names) != 2:
            return None
        alone = [name for name in names if self.index.only_reader(name) is not None and self._made_by(name, _FUSING)]
        return max(alone, key=self.index.maker.__getitem__, default=None)

    def _keeps_range(self, node: onnx.NodeProto) -> bool:
        if node.op_type == "AveragePool":  # by convolution only when it fits
            return max(attribute(node, "kernel_shape")) > _POOLED_BY_CONVOLUTION or (
                any(attribute(node, "pads", [])) and not attribute(node, "count_include_pad", 0)
            )
        if node.op_type in ("Relu", "Clip"):
            return not self._fused_cut(node) and not self._is_symmetric_clip(node)
        return node.op_type in KEEPS_RANGE or node.op_type in ("Slice", "Split")

    def _fused_cut(self, node: onnx.NodeProto) -> bool:
        """Whether a Relu or Clip from 0 on belongs to the operator before it."""
        name = node.input[0]
        if node.op_type == "Clip" and self._facts.clip_bounds(node)[0] != 0.0:
            return False
        if self.index.only_reader(name) is None or name not in self.index.maker:
            return False
        maker = self.index.nodes[self.index.maker[name]]
        if maker.op_type == "AveragePool":
            return not self._keeps_range(maker)
        scaled = maker.op_type == "Mul" and len(self.dynamic(maker)) == 1
        return maker.op_type in _FUSING or scaled or self._taken_in(maker) is not None

    def _is_symmetric_clip(self, node: onnx.NodeProto) -> bool:
        if node.op_type != "Clip":
            return False
        low, high = self._facts.clip_bounds(node)
        return low is not None and high is not None and 0.0 < high == -low

    def _fused(self, node: onnx.NodeProto) -> list[str]:
        """The tensors inside of ``x * f(x)``, one operator that ends with ``node``."""
        names = self.dynamic(node)
        if node.op_type != "Mul" or len(names) != 2:
            return []
        for gate, value in (names, names[::-1]):
            chain = self._chain(gate, value)
            if tuple(reversed(chain)) in _GATES:
                scaled = "Add" in chain and self._is_scaled(node.output[0])
                return [*chain.values(), *(node.output[:1] if scaled else [])]
        return []

    def _chain(self, end: str, start: str) -> dict[str, str]:
        """Operator -> result, for what leads from ``start`` to ``end`` when nothing else reads between."""
        found: dict[str, str] = {}
        while end != start:
            if end not in self.index.maker or self.index.only_reader(end) is None or len(found) > 3:
                return {}
            node = self.index.nodes[self.index.maker[end]]
            names = self.dynamic(node)
            if len(names) != 1:
                return {}
            found[node.op_type] = end
            end = names[0]
        return found

    def _is_scaled(self, name: str) -> bool:
        """Whether all that reads ``name`` is a product with a constant, as in x * (1 + erf(x / 1.4)) / 2."""
        reader = self.index.only_reader(name)
        node = None if reader is None else self.index.nodes[reader]
        return node is not None and node.op_type in ("Mul", "Div") and len(self.dynamic(node)) == 1

    def _fix(self, node: onnx.NodeProto) -> None:
        name, result = node.input[0], node.output[0]
        if self.index.only_reader(name) is None or name in self.kept or name in self.index.constants:
            return
        ends = result in self.index.outputs and not self._read(result)
        before, after = (FIXED_WIDE if ends else FIXED)[node.op_type]
        self.fixed[name] = TensorRange(-before, before, "fixed")
        self.fixed[result] = TensorRange(0.0, after, "fixed")

    def _made_by(self, name: str, op_types: Collection[str]) -> bool:
        return name in self.index.maker and self.index.nodes[self.index.maker[name]].op_type in op_types

    def _read(self, name: str) -> bool:
        return bool(self.index.readers.get(name))


def calibrates_in_batches(proto: onnx.ModelProto) -> bool:
    """Whether hb_mapper can calibrate with 8 samples at a time; else it falls back to one.

    It cannot when an input's first dimension is not 1, and when a Reshape stays in its graph, whose shape it has made
    constant; one that only a Gemm reads goes away with it, and those of a channel shuffle become one operator.
    """
    index = GraphIndex(proto)
    first = [value.type.tensor_type.shape.dim[:1] for value in proto.graph.input if value.name not in index.constants]
    if any(dim and dim[0].HasField("dim_value") and dim[0].dim_value != 1 for dim in first):
        return False
    for node in index.nodes:
        if node.op_type == "Reshape" and not index.is_float_constant(node.input[0]):
            reader = index.only_reader(node.output[0])
            if reader is not None and (index.nodes[reader].op_type == "Gemm" or _shuffles(index.nodes[reader])):
                continue
            maker = index.maker.get(node.input[0])
            if maker is None or not _shuffles(index.nodes[maker]):
                return False
    return True


def _shuffles(node: onnx.NodeProto) -> bool:
    """Whether this Transpose swaps groups and channels of a picture split into groups."""
    return node.op_type == "Transpose" and list(attribute(node, "perm", [])) == [0, 2, 1, 3, 4]
