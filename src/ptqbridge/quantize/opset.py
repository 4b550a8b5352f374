"""Raises the opset of a model to 13, the first with one scale per channel in DequantizeLinear.

Only what changed between the model's opset and 13 is rewritten, operator by operator, after the change notes of
https://github.com/onnx/onnx/blob/main/docs/Changelog.md; an operator with a change that is not covered here leaves the
whole model as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx

from ptqbridge.model.check import node_text, opset_of
from ptqbridge.model.walk import all_graphs
from ptqbridge.quantize.graph import all_names, attribute, new_name

TARGET = 13


class CannotRaise(Exception):
    """The opset stays as it is; the text says which node is the reason."""


def raise_opset(model: onnx.ModelProto) -> str:
    """Raise ``model`` (in place) to opset 13 when it is lower; returns a note, empty when there was nothing to do.

    Raises CannotRaise, the model being untouched then.
    """
    opset = opset_of(model)
    if opset >= TARGET:
        return ""
    if model.functions:
        raise CannotRaise("the model has local functions")
    for graph in all_graphs(model.graph):
        for node in graph.node:
            _check(node, opset)
    raiser = _Raiser(model, opset)
    # Nested graphs are collected first: rewriting a node list copies it.
    for graph in reversed(list(all_graphs(model.graph))):
        raiser.rewrite(graph)
    kept = [entry for entry in model.opset_import if entry.domain not in ("", "ai.onnx")]
    kept = [onnx.helper.make_opsetid(entry.domain, entry.version) for entry in kept]
    del model.opset_import[:]
    model.opset_import.extend([onnx.helper.make_opsetid("", TARGET), *kept])
    changed = f", {raiser.changed} nodes rewritten" if raiser.changed else ""
    return f"opset {opset} raised to {TARGET}{changed}"


def _check(node: onnx.NodeProto, opset: int) -> None:
    """Raise CannotRaise when this node's meaning might differ at opset 13 and no rewrite is known."""
    if node.domain not in ("", "ai.onnx"):
        return
    reason = ""
    if node.op_type == "BatchNormalization" and not attribute(node, "spatial", 1):
        reason = "spatial=0"
    elif node.op_type == "Dropout" and len(node.output) > 1 and opset < 12:
        reason = "a mask output"
    elif node.op_type == "Upsample" and opset < 9 and attribute(node, "scales") is None:
        reason = "no scales"
    elif node.op_type in ("Hardmax", "Scan") or (
        node.op_type not in _REWRITES and not _compatible(node.op_type, opset)
    ):
        reason = "a changed definition"
    if reason:
        raise CannotRaise(f"{node_text(node)} ({node.op_type}) has {reason}")


def _compatible(op_type: str, opset: int) -> bool:
    """Whether opset 13 only widened the operator: old inputs, outputs, attributes and defaults all still hold."""
    try:
        old = onnx.defs.get_schema(op_type, opset, "")
        new = onnx.defs.get_schema(op_type, TARGET, "")
    except onnx.defs.SchemaError:
        return False
    if old.since_version == new.since_version:
        return not new.deprecated
    names = [[item.name for item in side] for side in (old.inputs, new.inputs, old.outputs, new.outputs)]
    added = new.inputs[len(names[0]) :]
    optional = onnx.defs.OpSchema.FormalParameterOption.Optional
    attributes = all(
        name in new.attributes and new.attributes[name].default_value == item.default_value
        for name, item in old.attributes.items()
    )
    extra = [item for name, item in new.attributes.items() if name not in old.attributes]
    return (
        not new.deprecated
        and len(names[1]) >= len(names[0])
        and len(names[3]) >= len(names[2])
        and all(item.option == optional for item in added)
        and attributes
        and not any(item.required for item in extra)
    )


class _Raiser:
    def __init__(self, model: onnx.ModelProto, opset: int) -> None:
        self.model = model
        self.opset = opset
        self.taken = all_names(model)
        self.changed = 0

    def rewrite(self, graph: onnx.GraphProto) -> None:
        nodes: list[onnx.NodeProto] = []
        for node in graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            rewrite = _REWRITES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
            made = rewrite(self, copy) if rewrite else [copy]
            self.changed += made != [node]
            nodes.extend(made)
        del graph.node[:]
        graph.node.extend(nodes)

    def constant(self, about: str, value: Any, dtype: Any) -> str:
        """A new initializer of the main graph (nested graphs see it too)."""
        name = new_name(about, self.taken)
        self.model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def into_inputs(
        self, node: onnx.NodeProto, attributes: Sequence[tuple[str, Any]], position: int = 1
    ) -> list[onnx.NodeProto]:
        """Turn attributes into constant inputs from ``position`` on; an absent one becomes an empty name."""
        names = []
        for name, dtype in attributes:
            value = attribute(node, name)
            _drop(node, name)
            names.append("" if value is None else self.constant(f"{node.output[0]}_{name}", value, dtype))
        while names and not names[-1]:
            names.pop()
        if names:
            del node.input[position:]
            node.input.extend(names)
        return [node]

    def axes(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        return self.into_inputs(node, [("axes", np.int64)])

    def split(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        return self.into_inputs(node, [("split", np.int64)])

    def clip(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        if self.opset >= 11:
            return [node]
        return self.into_inputs(node, [("min", np.float32), ("max", np.float32)])

    def pad(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        if self.opset >= 11:
            return [node]
        return self.into_inputs(node, [("pads", np.int64), ("value", np.float32)])

    def top_k(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        if self.opset >= 10:
            return [node]
        k = attribute(node, "k")
        _drop(node, "k")
        node.input.append(self.constant(f"{node.output[0]}_k", [k], np.int64))
        return [node]

    def slice(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        if self.opset >= 10:
            return [node]
        return self.into_inputs(node, [("starts", np.int64), ("ends", np.int64), ("axes", np.int64)])

    def dropout(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        if self.opset < 12:
            del node.attribute[:]  # the ratio only matters in training
        return [node]

    def batch_norm(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        _drop(node, "spatial")
        return [node]

    def scatter(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        node.op_type = "ScatterElements"
        return [node]

    def upsample(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Upsample, and Resize of opset 10: index = floor(i / scale), no half-pixel shift (asymmetric)."""
        if node.op_type == "Resize" and self.opset >= 11:
            return [node]
        scales = attribute(node, "scales")
        name = node.input[1] if scales is None else self.constant(f"{node.output[0]}_scales", scales, np.float32)
        _drop(node, "scales")
        node.op_type = "Resize"
        del node.input[1:]
        node.input.extend(["", name])
        node.attribute.append(onnx.helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
        if attribute(node, "mode", b"nearest") == b"nearest":
            node.attribute.append(onnx.helper.make_attribute("nearest_mode", "floor"))
        return [node]

    def softmax(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Below 13 all axes from ``axis`` (default 1) on form one: flatten, take the last axis, restore the shape."""
        axis = attribute(node, "axis", 1)
        _drop(node, "axis")
        node.attribute.append(onnx.helper.make_attribute("axis", -1))
        if axis == -1:
            return [node]
        x, y = node.input[0], node.output[0]
        shape, flat, soft = (new_name(f"{y}_{part}", self.taken) for part in ("shape", "flat", "softmax"))
        node.input[0], node.output[0] = flat, soft
        return [
            onnx.helper.make_node("Shape", [x], [shape], name=new_name(f"{node.name or y}_shape_node", self.taken)),
            onnx.helper.make_node(
                "Flatten", [x], [flat], name=new_name(f"{node.name or y}_flatten_node", self.taken), axis=axis
            ),
            node,
            onnx.helper.make_node(
                "Reshape", [soft, shape], [y], name=new_name(f"{node.name or y}_reshape_node", self.taken)
            ),
        ]


def _drop(node: onnx.NodeProto, name: str) -> None:
    for position in range(len(node.attribute) - 1, -1, -1):
        if node.attribute[position].name == name:
            del node.attribute[position]


_REWRITES: dict[str, Callable[[_Raiser, onnx.NodeProto], list[onnx.NodeProto]]] = {
    "BatchNormalization": _Raiser.batch_norm,
    "Clip": _Raiser.clip,
    "Dropout": _Raiser.dropout,
    "LogSoftmax": _Raiser.softmax,
    "Pad": _Raiser.pad,
    "ReduceSum": _Raiser.axes,
    "Resize": _Raiser.upsample,
    "Scatter": _Raiser.scatter,
    "Slice": _Raiser.slice,
    "Softmax": _Raiser.softmax,
    "Split": _Raiser.split,
    "Squeeze": _Raiser.axes,
    "TopK": _Raiser.top_k,
    "Unsqueeze": _Raiser.axes,
    "Upsample": _Raiser.upsample,
}
