"""Which nodes shall run on integers and which tensors need Q/DQ and a range, per scheme.

Scheme ``onnxruntime``: what ONNX Runtime's CPU kernels can run. Its Q/DQ fusion (docs "Quantize ONNX Models", source
core/optimizer/qdq_transformer/selectors_actions, v1.16) turns ``DQ -> op -> Q`` into one integer kernel, so both sides
of an operator need Q/DQ; a Relu or Clip before Q is dropped when the integer range already cuts there.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import onnx

from ptqbridge.quantize.explicit import explicit_placement
from ptqbridge.quantize.graph import GraphIndex, attribute
from ptqbridge.quantize.horizon import horizon_placement

SCHEMES = ("onnxruntime",)

WEIGHTED = frozenset({"Conv", "Gemm", "MatMul"})
"""Operators that make integers worth while."""
FOLDED = frozenset({"Relu", "Clip"})
"""Vanish in the Q that follows."""
MOVES = frozenset(
    {
        *("MaxPool", "Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"),
        *("Resize", "Slice", "Split", "Gather", "DepthToSpace"),
    }
)
"""Do not change values, or pick some of them, so that output and input share one range."""
COMPUTES = frozenset({"Add", "Mul", "Concat", "AveragePool", "GlobalAveragePool", "Sigmoid", "LeakyRelu"})
"""Have integer kernels of their own; worth it only between integer neighbours."""


@dataclass(frozen=True)
class Placement:
    """Where integers run.

    ``integer``: names of the nodes meant to run on integers. ``quantized``: tensors that get Q/DQ, in graph order.
    ``same_range``: tensor -> tensor whose range it takes, since the node between only moves values.
    """

    integer: frozenset[str]
    quantized: tuple[str, ...]
    same_range: dict[str, str]

    def root(self, tensor: str) -> str:
        """The tensor whose range ``tensor`` takes (often itself)."""
        while tensor in self.same_range:
            tensor = self.same_range[tensor]
        return tensor

    @property
    def observed(self) -> list[str]:
        """The tensors whose ranges are needed, each once, in graph order."""
        return list(dict.fromkeys(self.root(name) for name in self.quantized))


def observed_tensors(
    proto: onnx.ModelProto, scheme: str = "onnxruntime", skip_nodes: Iterable[str] = frozenset()
) -> list[str]:
    """Names of the tensors whose ranges are needed in ``proto`` (as `prepare` returns it), each once, in graph order.

    ``onnxruntime``: for ``quantize`` with the same float nodes; ``tensorrt``: for explicit Q/DQ; ``horizon``: what
    hb_mapper gives thresholds. Raises ValueError for another scheme.
    """
    if scheme == "horizon":
        return horizon_placement(proto, frozenset(skip_nodes)).observed
    if scheme == "tensorrt":
        return list(explicit_placement(proto, skip_nodes).quantized)
    return place(proto, scheme, skip_nodes).observed


def place(proto: onnx.ModelProto, scheme: str = "onnxruntime", skip_nodes: Iterable[str] = frozenset()) -> Placement:
    """Decide where integers run in ``proto`` (as `ptqbridge.quantize.prepare.prepare` returns it).

    ``skip_nodes`` (names) stay float. Raises ValueError for an unknown scheme and for nodes without a name of their
    own.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"unknown scheme {scheme!r}; expected one of {', '.join(SCHEMES)}")
    names = [node.name for node in proto.graph.node]
    if "" in names or len(set(names)) < len(names):
        raise ValueError("nodes without a name of their own: prepare the model first")
    return _Placer(GraphIndex(proto), frozenset(skip_nodes)).place()


class _Placer:
    def __init__(self, index: GraphIndex, skip: frozenset[str]) -> None:
        self.index = index
        self.skip = skip
        self.weighted = {
            position
            for position, node in enumerate(index.nodes)
            if node.op_type in WEIGHTED and self._may(node) and self._weights_fit(node)
        }

    def _may(self, node: onnx.NodeProto) -> bool:
        return node.domain in ("", "ai.onnx") and node.name not in self.skip

    def _weights_fit(self, node: onnx.NodeProto) -> bool:
        """Whether the integer kernel takes this node's weights and attributes."""
        index = self.index
        data, weight = node.input[0], node.input[1]
        bias = node.input[2] if len(node.input) > 2 else ""
        if data in index.constants or (bias and not index.is_float_constant(bias)):
            return False
        if node.op_type == "MatMul":
            return weight not in index.constants or (
                index.is_float_constant(weight) and len(index.constants[weight].dims) == 2
            )
        if not index.is_float_constant(weight):
            return False
        if node.op_type == "Conv":
            return True
        columns = index.constants[weight].dims[0 if attribute(node, "transB", 0) else 1]
        shape_fits = not bias or [dim for dim in index.constants[bias].dims if dim != 1] in ([columns], [])
        count_fits = not bias or columns in list(index.constants[bias].dims)
        plain = attribute(node, "alpha", 1.0) == 1.0 and attribute(node, "beta", 1.0) == 1.0
        return shape_fits and count_fits and plain and not attribute(node, "transA", 0)

    def place(self) -> Placement:
        secondary = self._wanted(self._reachable())
        integer = self.weighted | secondary
        quantized: dict[str, None] = {}
        same_range: dict[str, str] = {}
        for position, node in enumerate(self.index.nodes):
            if position not in integer:
                continue
            for name in self._data_inputs(node):
                quantized.setdefault(name)
            if node.op_type in MOVES:
                for output in node.output:
                    if output and self.index.readers.get(output):
                        same_range[self._after_folded(output, integer)] = node.input[0]
            if position in secondary or node.op_type == "Conv":
                for output in node.output:
                    if output and (self.index.readers.get(output) or output in self.index.pinned):
                        quantized.setdefault(self._after_folded(output, integer))
        # A Relu between changes the values: its output keeps a range of its own.
        same_range = {name: source for name, source in same_range.items() if name in quantized and source in quantized}
        same_range = {
            name: source
            for name, source in same_range.items()
            if self.index.nodes[self.index.maker[name]].op_type not in FOLDED
        }
        return Placement(
            integer=frozenset(self.index.nodes[position].name for position in integer),
            quantized=tuple(quantized),
            same_range=same_range,
        )

    def _data_inputs(self, node: onnx.NodeProto) -> list[str]:
        """The activations an integer node reads (weights, biases, shapes and other parameters left out)."""
        if node.op_type in ("Add", "Mul", "Concat"):
            return list(self.index.dynamic_inputs(node))
        if node.op_type == "MatMul":
            return [name for name in node.input if name not in self.index.constants]
        return [node.input[0]]

    def _after_folded(self, name: str, integer: set[int]) -> str:
        """The tensor after the Relu or Clip that alone reads ``name``; ``name`` itself when there is none."""
        reader = self.index.only_reader(name)
        if reader is None or not self._is_folded(reader):
            return name
        after: str = self.index.nodes[reader].output[0]
        return after

    def _is_folded(self, position: int) -> bool:
        node = self.index.nodes[position]
        if node.op_type not in FOLDED or not self._may(node):
            return False
        return all(name in self.index.constants for name in node.input[1:] if name)

    def _reachable(self) -> set[int]:
        """Secondary nodes all of whose activations come from integer nodes."""
        ready: set[str] = set()
        found: set[int] = set()
        for position, node in enumerate(self.index.nodes):
            if position in self.weighted:
                ready.update(node.output)
            elif node.op_type in FOLDED:
                if node.input[0] in ready and self._is_folded(position):
                    ready.update(node.output)
            elif node.op_type in COMPUTES | MOVES and self._may(node) and self._kernel_fits(node):
                inputs = self._data_inputs(node)
                if inputs and all(name in ready for name in inputs):
                    found.add(position)
                    ready.update(node.output)
        return found

    def _kernel_fits(self, node: onnx.NodeProto) -> bool:
        """Whether the integer kernel exists for these attributes and constants."""
        index = self.index
        if node.op_type in ("Add", "Mul", "Concat"):
            # A constant operand (a bias after MatMul, say) would be cut to 8 bits: left to the float kernel.
            return not any(name in index.constants for name in node.input)
        if node.op_type in ("MaxPool", "Dropout"):
            return not any(index.readers.get(name) or name in index.outputs for name in node.output[1:])
        if node.op_type == "Resize":
            mode = attribute(node, "mode", b"nearest")
            return mode in (b"nearest", "nearest")
        return True

    def _wanted(self, found: set[int]) -> set[int]:
        """Those of ``found`` whose result reaches another integer node, so that Q/DQ around them pays."""
        wanted: set[str] = set()
        kept: set[int] = set()
        for position in range(len(self.index.nodes) - 1, -1, -1):
            node = self.index.nodes[position]
            if position in self.weighted:
                wanted.update(self._data_inputs(node))
            elif position in found:
                if any(name in wanted for name in node.output):
                    kept.add(position)
                    wanted.update(self._data_inputs(node))
            elif node.op_type in FOLDED and self._is_folded(position) and node.output[0] in wanted:
                wanted.add(node.input[0])
        return kept
