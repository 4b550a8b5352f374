"""Symmetric INT8 Q/DQ for TensorRT's explicit quantization: where the pairs go, and the model that holds them.

Placement follows what TensorRT fuses (NVIDIA/TensorRT tools/tensorflow-quantization, docs at v8.6.1; the parser's rules
in onnx-tensorrt): pairs on the inputs of weighted operators, on the skip branch of a residual Add, before average
pooling between integer layers; none on outputs of weighted operators, none on biases, which stay float32. MaxPool,
Reshape and their kin need none: TensorRT moves Q through them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from ptqbridge.quantize.graph import GraphIndex, all_names, attribute, new_name

if TYPE_CHECKING:
    import numpy.typing as npt

    from ptqbridge.quantize.ranges import Ranges

WEIGHTED = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul"})
POOLS = frozenset({"AveragePool", "GlobalAveragePool"})
MOVES = frozenset(
    {"MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Slice", "Relu"}
)
"""Operators that INT8 passes through on its way from a weighted one."""
TOP = 127.0
SMALLEST = np.float32(2.0**-126)
"""TensorRT refuses a scale of zero; this one, the smallest normal float32, stands for an all-zero tensor."""


@dataclass(frozen=True)
class Explicit:
    """``quantized``: activation tensors with a pair, in graph order. ``layers``: nodes that compute in INT8."""

    quantized: tuple[str, ...]
    layers: tuple[str, ...]
    floats: dict[str, str]
    """Weighted nodes that stay float, and why."""


@dataclass(frozen=True)
class ExplicitModel:
    """The model with pairs, and where they are."""

    proto: onnx.ModelProto
    placement: Explicit


def explicit_placement(
    proto: onnx.ModelProto, keep_float: Iterable[str] = (), known: Iterable[str] | None = None
) -> Explicit:
    """Where pairs go in ``proto`` (as `prepare` returns it).

    ``keep_float`` names nodes that get none. ``known`` are the tensors with a range: where one of a node's activations
    has none, the node stays float. None stands for all tensors.
    """
    return _Placer(GraphIndex(proto), frozenset(keep_float), None if known is None else frozenset(known)).place()


class _Placer:
    def __init__(self, index: GraphIndex, keep_float: frozenset[str], known: frozenset[str] | None) -> None:
        self.index, self.keep_float, self.known = index, keep_float, known
        self.integer: set[int] = set()
        self.quantized: dict[str, None] = {}
        self.floats: dict[str, str] = {}

    def place(self) -> Explicit:
        for position, node in enumerate(self.index.nodes):
            if node.op_type in WEIGHTED and node.domain in ("", "ai.onnx"):
                why = self._why_float(node)
                if why:
                    self.floats[node.name] = why
                    continue
                self.integer.add(position)
                self.quantized.update(dict.fromkeys(self._activations(node)))
        layers = [node.name for position, node in enumerate(self.index.nodes) if position in self.integer]
        for position, node in enumerate(self.index.nodes):
            if node.op_type == "Add" and node.name not in self.keep_float:
                skip = self._skip_branch(node)
                if skip and self._has_range(skip):
                    self.quantized.setdefault(skip)
            elif node.op_type in POOLS and node.name not in self.keep_float:
                source = self._source(node.input[0])
                if source in self.integer and self._has_range(node.input[0]):
                    self.quantized.setdefault(node.input[0])
                    self.integer.add(position)
                    layers.append(node.name)
        order = {name: place for place, name in enumerate(self._tensors())}
        return Explicit(tuple(sorted(self.quantized, key=order.__getitem__)), tuple(layers), self.floats)

    def _tensors(self) -> Iterable[str]:
        yield from self.index.inputs
        for node in self.index.nodes:
            yield from node.output

    def _has_range(self, name: str) -> bool:
        return self.known is None or name in self.known

    def _activations(self, node: onnx.NodeProto) -> list[str]:
        return [name for name in node.input[:2] if name not in self.index.constants]

    def _why_float(self, node: onnx.NodeProto) -> str:
        """Why a weighted node stays float; "" when it gets pairs."""
        if node.name in self.keep_float:
            return "asked for"
        if node.input[0] in self.index.constants and node.input[1] in self.index.constants:
            return "it has no activation"
        weight = node.input[1]
        if node.op_type != "MatMul" and not self.index.is_float_constant(weight):
            return "its weights are computed"
        if weight in self.index.constants and not self.index.is_float_constant(weight):
            return "its weights are not float32"
        if node.op_type == "MatMul" and (node.input[0] in self.index.constants):
            return "its first operand is constant"
        if node.op_type == "ConvTranspose" and attribute(node, "group", 1) != 1:
            return "grouped transposed convolutions take no scale per channel"
        lacking = [name for name in self._activations(node) if not self._has_range(name)]
        return f"no range is known for {', '.join(lacking)}" if lacking else ""

    def _skip_branch(self, node: onnx.NodeProto) -> str:
        """The other input of an Add one of whose inputs comes straight from an integer layer, or ""."""
        if any(name in self.index.constants for name in node.input):
            return ""
        straight = [name for name in node.input if self._straight(name)]
        if not straight:
            return ""
        # Of two layers the later one takes the Add in; the earlier one is the branch that skips.
        main = max(straight, key=lambda name: self.index.maker[name])
        return next((name for name in node.input if name != main), "")

    def _straight(self, name: str) -> bool:
        maker = self.index.maker.get(name)
        return maker in self.integer and self.index.only_reader(name) is not None

    def _source(self, name: str) -> int | None:
        """The node whose values these are, seen through those that only move or clip them, and through Add."""
        position = self.index.maker.get(name)
        while position is not None and self.index.nodes[position].op_type in MOVES | {"Add"}:
            inputs = list(self.index.dynamic_inputs(self.index.nodes[position]))
            if not inputs:
                return None
            position = self.index.maker.get(inputs[0])
        return position


def quantize_explicit(proto: onnx.ModelProto, ranges: Ranges, keep_float: Iterable[str] = ()) -> ExplicitModel:
    """A copy of ``proto`` with Q/DQ pairs: INT8, zero point 0, one scale per activation, one per output channel.

    Activation scale = amax / 127 of ``ranges``; weight scale = largest magnitude of the channel / 127. Weights stay
    float32 before their pair, as TensorRT 8.6 wants and later versions accept. Below opset 13 weights get one scale.
    """
    placement = explicit_placement(proto, keep_float, ranges.tensors)
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    _Writer(model, placement, ranges).write()
    return ExplicitModel(model, placement)


class _Writer:
    def __init__(self, model: onnx.ModelProto, placement: Explicit, ranges: Ranges) -> None:
        self.model, self.placement, self.ranges = model, placement, ranges
        self.index = GraphIndex(model)
        self.taken = all_names(model)
        self.per_channel = any(entry.version >= 13 for entry in model.opset_import if entry.domain in ("", "ai.onnx"))
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[tuple[str, int], str] = {}

    def write(self) -> None:
        after = {name: new_name(f"{name}_dequantized", self.taken) for name in self.placement.quantized}
        integer = frozenset(self.placement.layers)
        skips = {name for name in self.placement.quantized}
        for name in self.index.inputs:
            if name in after:
                self._activation(name, after[name])
        for node in self.index.nodes:
            reads = node.name in integer or (node.op_type == "Add" and self._takes_pair(node, skips))
            for slot, name in enumerate(node.input):
                if reads and name in after:
                    node.input[slot] = after[name]
            if node.name in integer and node.op_type in WEIGHTED and node.input[1] in self.index.constants:
                node.input[1] = self._weight(node.input[1], _channel_axis(node, self.index.array(node.input[1]).ndim))
            self.nodes.append(node)
            for name in node.output:
                if name in after:
                    self._activation(name, after[name])
        copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in self.nodes]
        del self.model.graph.node[:]
        self.model.graph.node.extend(copies)

    def _takes_pair(self, node: onnx.NodeProto, quantized: set[str]) -> bool:
        """Whether an Add reads a skip branch through its pair: one input comes straight from an integer layer."""
        straight = [name for name in node.input if self._made_by_layer(name)]
        return bool(straight) and any(name in quantized for name in node.input)

    def _made_by_layer(self, name: str) -> bool:
        maker = self.index.maker.get(name)
        return maker is not None and self.index.nodes[maker].name in self.placement.layers

    def _activation(self, name: str, after: str) -> None:
        amax = self.ranges.tensors[name].amax
        scale = np.maximum(np.float32(amax / TOP), SMALLEST)
        self._pair(name, name, after, np.asarray(scale, np.float32), None)

    def _weight(self, name: str, axis: int) -> str:
        key = (name, axis)
        if key not in self.weights:
            weight = np.asarray(self.index.array(name), np.float32)
            reduced = tuple(place for place in range(weight.ndim) if place != axis) if self.per_channel else None
            scale = np.maximum(np.abs(weight).max(axis=reduced, initial=0.0) / np.float32(TOP), SMALLEST)
            after = new_name(f"{name}_dequantized", self.taken)
            self._pair(name, name, after, scale.astype(np.float32), axis if self.per_channel else None)
            self.weights[key] = after
        return self.weights[key]

    def _pair(self, about: str, source: str, after: str, scale: npt.NDArray[Any], axis: int | None) -> None:
        scale_name = new_name(f"{about}_scale", self.taken)
        zero_name = new_name(f"{about}_zero_point", self.taken)
        zero = np.zeros(scale.shape, np.int8)
        self.model.graph.initializer.extend(
            [onnx.numpy_helper.from_array(scale, scale_name), onnx.numpy_helper.from_array(zero, zero_name)]
        )
        between = new_name(f"{about}_int8", self.taken)
        for op_type, read, written in (("QuantizeLinear", source, between), ("DequantizeLinear", between, after)):
            node = onnx.helper.make_node(
                op_type, [read, scale_name, zero_name], [written], new_name(f"{about}_{op_type}", self.taken)
            )
            if axis is not None:
                node.attribute.append(onnx.helper.make_attribute("axis", axis))
            self.nodes.append(node)


def _channel_axis(node: onnx.NodeProto, rank: int) -> int:
    """The axis of the output channels in a node's weights."""
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    return rank - 1
