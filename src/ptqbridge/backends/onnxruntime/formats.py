"""Element types and layouts at the model's border: Cast and Transpose nodes where the user asks for others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import onnx

from ptqbridge.errors import OptionError
from ptqbridge.spec import IOFormat

_TYPES = {
    "fp32": onnx.TensorProto.FLOAT,
    "fp16": onnx.TensorProto.FLOAT16,
    "int32": onnx.TensorProto.INT32,
    "int64": onnx.TensorProto.INT64,
}


def apply_formats(
    proto: onnx.ModelProto, inputs: Sequence[IOFormat], outputs: Sequence[IOFormat]
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """A copy of ``proto`` whose inputs and outputs have the types and layouts asked for, and what was changed.

    One format stands for all tensors, else their number must match the model's. The name at the border stays. Returns
    ``proto`` itself when nothing changes. Raises OptionError for a wrong number, or hwc on a tensor that is not 4-D.
    """
    graph = proto.graph
    constants = {tensor.name for tensor in graph.initializer}
    sides = (
        ("--inputIOFormats", [value for value in graph.input if value.name not in constants], inputs),
        ("--outputIOFormats", list(graph.output), outputs),
    )
    wanted = [
        (option, value.name, formats[0] if len(formats) == 1 else formats[index])
        for option, values, formats in sides
        if _counted(option, len(values), formats)
        for index, value in enumerate(values)
    ]
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    values = {value.name: value for value in (*copy.graph.input, *copy.graph.output)}
    notes = []
    for option, name, entry in wanted:
        is_input = option == "--inputIOFormats"
        note = _change(copy.graph, values[name], entry, option, is_input)
        if note:
            notes.append(note)
    return (copy, tuple(notes)) if notes else (proto, ())


def _counted(option: str, tensors: int, formats: Sequence[IOFormat]) -> bool:
    if formats and len(formats) not in (1, tensors):
        raise OptionError(f"{option}: expected 1 format or one for each of {tensors} tensors, found {len(formats)}")
    return bool(formats)


def _change(graph: onnx.GraphProto, value: onnx.ValueInfoProto, entry: IOFormat, option: str, is_input: bool) -> str:
    kind = value.type.tensor_type.elem_type
    asked = _TYPES[entry.dtype]
    hwc = entry.layouts == ("hwc",)
    if kind == asked and not hwc:
        return ""
    rank = len(value.type.tensor_type.shape.dim)
    if hwc and rank != 4:
        raise OptionError(f"{option}: hwc needs four dimensions, but {value.name!r} has {rank}")
    name = value.name
    inner = f"{name}_model"
    _rename(graph, name, inner)
    current = name if is_input else inner
    nodes = []
    # Inputs are turned first and then cast, outputs cast first and then turned: both work on the smaller type last.
    steps: list[tuple[str, dict[str, Any]]] = (
        [("Transpose", {"perm": [0, 3, 1, 2] if is_input else [0, 2, 3, 1]})] if hwc else []
    )
    if kind != asked:
        cast: tuple[str, dict[str, Any]] = ("Cast", {"to": kind if is_input else asked})
        steps = [*steps, cast] if is_input else [cast, *steps]
    for position, (operator, attributes) in enumerate(steps):
        last = position == len(steps) - 1
        output = (inner if is_input else name) if last else f"{name}_{operator.lower()}"
        nodes.append(
            onnx.helper.make_node(operator, [current], [output], f"{name}_border_{operator.lower()}", **attributes)
        )
        current = output
    everything = [*nodes, *graph.node] if is_input else [*graph.node, *nodes]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in everything]
    del graph.node[:]
    graph.node.extend(copies)
    value.type.tensor_type.elem_type = asked
    if hwc:
        dims = [
            onnx.TensorShapeProto.Dimension.FromString(d.SerializeToString()) for d in value.type.tensor_type.shape.dim
        ]
        del value.type.tensor_type.shape.dim[:]
        value.type.tensor_type.shape.dim.extend(dims[axis] for axis in (0, 2, 3, 1))
    return f"{name}: {entry.dtype}:{'+'.join(entry.layouts) or 'chw'} by {' and '.join(step for step, _ in steps)}"


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Rename a tensor inside the graph, subgraphs included; the border keeps the old name."""
    for node in graph.node:
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name == old:
                    names[index] = new
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                _rename(inner, old, new)
