"""An index over one ONNX graph: who makes a tensor, who reads it, what is constant."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import onnx

from ptqbridge.model.walk import captured

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


class GraphIndex:
    """Lookups over ``proto.graph`` as it was when the index was made; nodes are known by position in ``nodes``.

    ``pinned`` are names whose meaning must stay: graph outputs and tensors that subgraphs read.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        graph = proto.graph
        self.nodes: list[onnx.NodeProto] = in_order(list(graph.node))
        self.constants: dict[str, onnx.TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self.inputs: list[str] = [value.name for value in graph.input if value.name not in self.constants]
        self.outputs: set[str] = {value.name for value in graph.output}
        self.pinned: set[str] = set(self.outputs)
        self.maker: dict[str, int] = {}
        self.readers: dict[str, list[int]] = defaultdict(list)
        for position, node in enumerate(self.nodes):
            self.pinned |= captured(node)
            for name in node.output:
                self.maker[name] = position
            for name in dict.fromkeys(node.input):
                self.readers[name].append(position)

    def only_reader(self, name: str) -> int | None:
        """The one node that reads ``name``, or None when there are more, none, or the name is pinned."""
        readers = self.readers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.pinned else None

    def array(self, name: str) -> npt.NDArray[np.generic]:
        """The value of the constant ``name``."""
        array: npt.NDArray[np.generic] = onnx.numpy_helper.to_array(self.constants[name])
        return array

    def is_float_constant(self, name: str) -> bool:
        """Whether ``name`` is a float32 initializer."""
        tensor = self.constants.get(name)
        return tensor is not None and tensor.data_type == onnx.TensorProto.FLOAT

    def bias_after(self, node: onnx.NodeProto) -> tuple[str | None, str]:
        """(name of the Add, name of the constant) when a MatMul's result only gets a bias per column added."""
        position = self.only_reader(node.output[0]) if node.op_type == "MatMul" else None
        if position is None or node.input[1] not in self.constants:
            return None, ""
        add = self.nodes[position]
        for name in add.input if add.op_type == "Add" else ():
            if self.is_float_constant(name) and [*self.constants[name].dims] == [
                *self.constants[node.input[1]].dims[1:]
            ]:
                return add.name, name
        return None, ""

    def dynamic_inputs(self, node: onnx.NodeProto) -> Iterator[str]:
        """The node's inputs that are no constants."""
        return (name for name in node.input if name and name not in self.constants)


def attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    """The value of an attribute, or ``default`` when the node does not state it."""
    for item in node.attribute:
        if item.name == name:
            return onnx.helper.get_attribute_value(item)
    return default


def in_order(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """``nodes`` in topological order (as they are, when they already are so)."""
    made = {name for node in nodes for name in node.output if name}
    done: set[str] = set()
    ordered: list[onnx.NodeProto] = []
    waiting = nodes
    while waiting:
        late = []
        for node in waiting:
            needs = ({*node.input} | captured(node)) & made
            if needs <= done:
                ordered.append(node)
                done.update(node.output)
            else:
                late.append(node)
        if len(late) == len(waiting):
            return nodes  # a cycle: ONNX Runtime will say so
        waiting = late
    return ordered


def new_name(base: str, taken: set[str]) -> str:
    """``base``, or ``base_2``, ``base_3``...: the first that is not in ``taken``; it is added there."""
    name, number = base, 1
    while name in taken:
        number += 1
        name = f"{base}_{number}"
    taken.add(name)
    return name


def all_names(proto: onnx.ModelProto) -> set[str]:
    """Every tensor and node name in use, those of subgraphs included."""
    from ptqbridge.model.walk import all_graphs

    names: set[str] = set()
    for graph in all_graphs(proto.graph):
        names.update(value.name for value in (*graph.input, *graph.output))
        names.update(tensor.name for tensor in graph.initializer)
        for node in graph.node:
            names.add(node.name)
            names.update(node.input)
            names.update(node.output)
    return names
