"""Lowers the opset of a model to 11, the newest that hb_mapper reads.

What came after opset 11 is written in its words, operator by operator, after the change notes of
https://github.com/onnx/onnx/blob/main/docs/Changelog.md (LayerNormalization, Gelu, HardSwish and Mish by the formulas
of their definitions there). A model with anything that has no such words is left as it was. onnx.version_converter
stops at the first operator without an adapter, and has few on the way down.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx

from ptqbridge.model.check import node_text, opset_of
from ptqbridge.model.walk import all_graphs
from ptqbridge.quantize.graph import all_names, attribute, new_name

TARGET = 11
IR_TARGET = 9
_STANDARD = ("", "ai.onnx")


class CannotLower(Exception):
    """The model stays as it is; the text says which node is the reason."""


def lower_ir(model: onnx.ModelProto, newest: int = IR_TARGET) -> str:
    """Lower the IR version of ``model`` in place to ``newest``; returns a note, empty when there was nothing to do.

    Versions 10 and 11 added fields that a reader may pass over (metadata, device configurations) and element types
    below one byte, with which CannotLower is raised.
    """
    version = model.ir_version
    if version <= newest:
        return ""
    oldest = onnx.TensorProto.DataType.Value("FLOAT8E5M2FNUZ")
    for graph in all_graphs(model.graph):
        odd = next((tensor for tensor in graph.initializer if tensor.data_type > oldest), None)
        if odd is not None:
            raise CannotLower(f"weight {odd.name!r} has an element type that IR version {newest} does not know")
    model.ir_version = newest
    return f"IR version {version} lowered to {newest}"


def lower_opset(model: onnx.ModelProto) -> str:
    """Lower ``model`` (in place) to opset 11 when it is higher; returns a note, empty when there was nothing to do.

    Raises CannotLower; the model must not be used then.
    """
    opset = opset_of(model)
    if opset <= TARGET:
        return ""
    if model.functions:
        raise CannotLower("the model has local functions")
    lowerer = _Lowerer(model, opset)
    # Nested graphs are collected first: rewriting a node list copies it.
    for graph in reversed(list(all_graphs(model.graph))):
        lowerer.rewrite(graph)
    kept = [entry for entry in model.opset_import if entry.domain not in _STANDARD]
    kept = [onnx.helper.make_opsetid(entry.domain, entry.version) for entry in kept]
    del model.opset_import[:]
    model.opset_import.extend([onnx.helper.make_opsetid("", TARGET), *kept])
    changed = f", {lowerer.changed} nodes rewritten" if lowerer.changed else ""
    return f"opset {opset} lowered to {TARGET}{changed}"


class _Lowerer:
    def __init__(self, model: onnx.ModelProto, opset: int) -> None:
        self.model = model
        self.opset = opset
        self.taken = all_names(model)
        self.changed = 0
        self._ranks: dict[str, int] | None = None
        self._types: dict[str, int] = {}
        graphs = list(all_graphs(model.graph))
        self._constants = {tensor.name: tensor for graph in graphs for tensor in graph.initializer}
        for node in (node for graph in graphs for node in graph.node if node.op_type == "Constant"):
            value = _constant_value(node)
            if value is not None:
                self._constants[node.output[0]] = value

    def rewrite(self, graph: onnx.GraphProto) -> None:
        nodes: list[onnx.NodeProto] = []
        for node in graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            made = self._lowered(copy) if node.domain in _STANDARD else [copy]
            self.changed += made != [node]
            nodes.extend(made)
        del graph.node[:]
        graph.node.extend(nodes)

    def _lowered(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        while node.input and not node.input[-1]:
            del node.input[-1]
        rewrite = _REWRITES.get(node.op_type)
        if rewrite is None:
            return [self.fit(node)]
        return rewrite(self, node)

    def fit(self, node: onnx.NodeProto) -> onnx.NodeProto:
        """``node`` for opset 11 where only newer types, inputs and attributes, left at their defaults, are in the way.

        A type that opset 11 lacks is not seen here: running the result tells.
        """
        new = onnx.defs.get_schema(node.op_type, self.opset, "")
        try:
            old = onnx.defs.get_schema(node.op_type, TARGET, "")
        except onnx.defs.SchemaError:
            raise CannotLower(f"opset {TARGET} has no {node.op_type} ({node_text(node)})") from None
        if old.since_version == new.since_version:
            return node
        for what, given, most in (
            ("inputs", len(node.input), old.max_input),
            ("outputs", len([name for name in node.output if name]), old.max_output),
        ):
            if given > most:
                raise CannotLower(f"{node_text(node)} ({node.op_type}) has {given} {what}, at most {most} in {TARGET}")
        stated = {item.name for item in node.attribute}
        for name in stated - set(old.attributes):
            if name not in new.attributes or not self._default(node, name, new):
                value = _shown(attribute(node, name))
                raise CannotLower(f"{node_text(node)} ({node.op_type}) has {name}={value}, unknown to opset {TARGET}")
            _drop(node, name)
        for name, item in new.attributes.items():
            if name in stated or name not in old.attributes:
                continue
            default, before = item.default_value, old.attributes[name].default_value
            if default.type and default != before:
                node.attribute.add().CopyFrom(default)
        return node

    def _default(self, node: onnx.NodeProto, name: str, schema: onnx.defs.OpSchema) -> bool:
        """Whether an attribute says what its absence would."""
        value, default = attribute(node, name), schema.attributes[name].default_value
        if default.type:
            return bool(value == onnx.helper.get_attribute_value(default))
        return name == "dilations" and set(value) <= {1}

    def array(self, name: str, node: onnx.NodeProto) -> Any:
        """The value of an input that must be known now."""
        tensor = self._constants.get(name)
        if tensor is None:
            raise CannotLower(f"{node_text(node)} ({node.op_type}) computes {name!r}, a constant in opset {TARGET}")
        return onnx.numpy_helper.to_array(tensor)

    def constant(self, about: str, value: Any, dtype: Any) -> str:
        """A new initializer of the main graph (nested graphs see it too)."""
        name = new_name(about, self.taken)
        self.model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def like(self, node: onnx.NodeProto, value: float) -> str:
        """A scalar of the element type of the node's first input."""
        return self.constant(f"{node.output[0]}_constant", value, self.dtype(node.input[0], node))

    def dtype(self, name: str, node: onnx.NodeProto) -> Any:
        """The NumPy type of a tensor."""
        self._infer()
        kind = self._types.get(name)
        if kind is None:
            raise CannotLower(f"{node_text(node)} ({node.op_type}): the type of {name!r} is not known")
        return onnx.helper.tensor_dtype_to_np_dtype(kind)

    def rank(self, name: str, node: onnx.NodeProto) -> int:
        """The rank of a tensor, by shape inference. Raises CannotLower when it tells none."""
        ranks = self._infer()
        if name not in ranks:
            raise CannotLower(f"{node_text(node)} ({node.op_type}): the rank of {name!r} is not known")
        return ranks[name]

    def _infer(self) -> dict[str, int]:
        if self._ranks is None:
            from ptqbridge.model.interface import inferred

            graph = inferred(self.model).graph
            values = [*graph.input, *graph.output, *graph.value_info]
            self._types = {value.name: value.type.tensor_type.elem_type for value in values}
            shaped = (value for value in values if value.type.tensor_type.HasField("shape"))
            self._ranks = {value.name: len(value.type.tensor_type.shape.dim) for value in shaped}
            for name, tensor in self._constants.items():
                self._ranks[name], self._types[name] = len(tensor.dims), tensor.data_type
        return self._ranks

    def step(self, node: onnx.NodeProto, op_type: str, inputs: Sequence[str], output: str = "", **more: Any) -> Any:
        """A new node named after ``node``, whose output is ``output`` or a new tensor."""
        about = f"{node.output[0]}_{op_type.lower()}"
        name = new_name(f"{node.name or node.output[0]}_{op_type.lower()}_node", self.taken)
        return onnx.helper.make_node(op_type, inputs, [output or new_name(about, self.taken)], name=name, **more)

    # Inputs that were attributes, or were not there.

    def as_attribute(self, node: onnx.NodeProto, name: str) -> list[onnx.NodeProto]:
        """The second input becomes the attribute ``name``."""
        if len(node.input) > 1:
            values = [int(value) for value in np.ravel(self.array(node.input[1], node))]
            del node.input[1:]
            if values:
                node.attribute.append(onnx.helper.make_attribute(name, values))
            elif attribute(node, "noop_with_empty_axes", 0):
                node.op_type = "Identity"
                del node.attribute[:]
                return [node]
        elif attribute(node, "noop_with_empty_axes", 0):
            return [onnx.helper.make_node("Identity", node.input, node.output, name=node.name)]
        _drop(node, "noop_with_empty_axes")
        return [self.fit(node)]

    def axes(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        return self.as_attribute(node, "axes")

    def split(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        _drop(node, "num_outputs")  # opset 11 counts the outputs, and needs them equal: running the result tells
        return self.as_attribute(node, "split")

    def dropout(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        if len(node.input) > 2 and bool(self.array(node.input[2], node)):
            raise CannotLower(f"{node_text(node)} (Dropout) is in training mode")
        del node.input[1:]
        _drop(node, "seed")
        return [node]

    def pad(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        if len(node.input) < 4:
            return [self.fit(node)]
        rank = self.rank(node.input[0], node)
        pads, axes = (np.ravel(self.array(node.input[place], node)) for place in (1, 3))
        full = np.zeros(2 * rank, np.int64)
        for place, axis in enumerate(axes):
            full[axis % rank], full[axis % rank + rank] = pads[place], pads[place + len(axes)]
        node.input[1] = self.constant(f"{node.output[0]}_pads", full, np.int64)
        del node.input[3:]
        while not node.input[-1]:
            del node.input[-1]
        return [self.fit(node)]

    def resize(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Opset 11 needs both roi and scales; empty ones say that they are not used."""
        while len(node.input) < 3:
            node.input.append("")
        for place, word in ((1, "roi"), (2, "scales")):
            if not node.input[place]:
                node.input[place] = self.constant(f"{node.output[0]}_{word}", [], np.float32)
        return [self.fit(node)]

    def reshape(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        if attribute(node, "allowzero", 0) and 0 not in self.array(node.input[1], node):
            _drop(node, "allowzero")
        return [self.fit(node)]

    def shape(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        start, end = attribute(node, "start", 0), attribute(node, "end")
        _drop(node, "start")
        _drop(node, "end")
        if not start and end is None:
            return [node]
        whole = self.step(node, "Shape", node.input)
        bounds = [
            self.constant(f"{node.output[0]}_{word}", [value], np.int64)
            for word, value in (("start", start), ("end", np.iinfo(np.int64).max if end is None else end), ("axis", 0))
        ]
        return [whole, onnx.helper.make_node("Slice", [whole.output[0], *bounds], node.output, name=node.name)]

    def constant_node(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        tensor = _constant_value(node)
        if tensor is None:
            raise CannotLower(f"{node_text(node)} (Constant) holds no numbers")
        return [onnx.helper.make_node("Constant", [], node.output, name=node.name, value=tensor)]

    def softmax(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """From 13 on along one axis (default the last); before, all axes from ``axis`` on formed one."""
        axis = attribute(node, "axis", -1)
        last = axis == -1 or axis == self.rank(node.input[0], node) - 1
        _drop(node, "axis")
        node.attribute.append(onnx.helper.make_attribute("axis", -1))
        if last:
            return [node]
        order = list(range(self.rank(node.input[0], node)))
        order[axis], order[-1] = order[-1], order[axis]
        ahead = self.step(node, "Transpose", [node.input[0]], perm=order)
        back = self.step(
            node, "Transpose", [new_name(f"{node.output[0]}_turned", self.taken)], node.output[0], perm=order
        )
        node.input[0], node.output[0] = ahead.output[0], back.input[0]
        return [ahead, node, back]

    # Operators that opset 11 has to spell out.

    def not_less(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        opposite = self.step(node, "Less" if node.op_type == "GreaterOrEqual" else "Greater", node.input)
        return [opposite, onnx.helper.make_node("Not", opposite.output, node.output, name=node.name)]

    def hard_swish(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        gate = self.step(node, "HardSigmoid", node.input, alpha=1 / 6, beta=0.5)
        product = [node.input[0], gate.output[0]]
        return [gate, onnx.helper.make_node("Mul", product, node.output, name=node.name)]

    def mish(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        soft = self.step(node, "Softplus", node.input)
        gate = self.step(node, "Tanh", soft.output)
        product = [node.input[0], gate.output[0]]
        return [soft, gate, onnx.helper.make_node("Mul", product, node.output, name=node.name)]

    def gelu(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        if attribute(node, "approximate", b"none") != b"none":
            raise CannotLower(f"{node_text(node)} (Gelu) is the tanh approximation")
        x = node.input[0]
        scaled = self.step(node, "Mul", [x, self.like(node, 0.5**0.5)])
        erf = self.step(node, "Erf", scaled.output)
        gate = self.step(node, "Add", [erf.output[0], self.like(node, 1.0)])
        half = self.step(node, "Mul", [x, self.like(node, 0.5)])
        product = [half.output[0], gate.output[0]]
        return [scaled, erf, gate, half, onnx.helper.make_node("Mul", product, node.output, name=node.name)]

    def layer_norm(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        if len([name for name in node.output if name]) > 1:
            raise CannotLower(f"{node_text(node)} (LayerNormalization) also gives mean or deviation")
        axis = attribute(node, "axis", -1)
        axes = list(range(axis, 0)) if axis < 0 else list(range(axis, self.rank(node.input[0], node)))
        mean = self.step(node, "ReduceMean", [node.input[0]], axes=axes, keepdims=1)
        centred = self.step(node, "Sub", [node.input[0], mean.output[0]])
        squared = self.step(node, "Mul", [centred.output[0], centred.output[0]])
        variance = self.step(node, "ReduceMean", squared.output, axes=axes, keepdims=1)
        epsilon = self.like(node, attribute(node, "epsilon", 1e-5))
        safe = self.step(node, "Add", [variance.output[0], epsilon])
        deviation = self.step(node, "Sqrt", safe.output)
        steps = [mean, centred, squared, variance, safe, deviation]
        steps.append(self.step(node, "Div", [centred.output[0], deviation.output[0]]))
        for op_type, name in zip(("Mul", "Add"), node.input[1:], strict=False):
            if name:
                steps.append(self.step(node, op_type, [steps[-1].output[0], name]))
        steps[-1].output[0] = node.output[0]
        steps[-1].name = node.name or steps[-1].name
        return steps


def _constant_value(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """The tensor of a Constant node, whichever attribute holds it; None for texts and sparse tensors."""
    kinds: dict[str, Any] = {
        **dict.fromkeys(("value_int", "value_ints"), np.int64),
        **dict.fromkeys(("value_float", "value_floats"), np.float32),
    }
    for item in node.attribute:
        if item.name == "value":
            tensor: onnx.TensorProto = item.t
            return tensor
        if item.name in kinds:
            array = np.asarray(onnx.helper.get_attribute_value(item), kinds[item.name])
            made: onnx.TensorProto = onnx.numpy_helper.from_array(array, node.output[0])
            return made
    return None


def _shown(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _drop(node: onnx.NodeProto, name: str) -> None:
    for position in range(len(node.attribute) - 1, -1, -1):
        if node.attribute[position].name == name:
            del node.attribute[position]


_REDUCERS = ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod", "Sum", "SumSquare")
_REWRITES: dict[str, Callable[[_Lowerer, onnx.NodeProto], list[onnx.NodeProto]]] = {
    **{f"Reduce{kind}": _Lowerer.axes for kind in _REDUCERS},
    "Constant": _Lowerer.constant_node,
    "Dropout": _Lowerer.dropout,
    "Gelu": _Lowerer.gelu,
    "GreaterOrEqual": _Lowerer.not_less,
    "HardSwish": _Lowerer.hard_swish,
    "LayerNormalization": _Lowerer.layer_norm,
    "LessOrEqual": _Lowerer.not_less,
    "LogSoftmax": _Lowerer.softmax,
    "Mish": _Lowerer.mish,
    "Pad": _Lowerer.pad,
    "Reshape": _Lowerer.reshape,
    "Resize": _Lowerer.resize,
    "Shape": _Lowerer.shape,
    "Softmax": _Lowerer.softmax,
    "Split": _Lowerer.split,
    "Squeeze": _Lowerer.axes,
    "Unsqueeze": _Lowerer.axes,
}
