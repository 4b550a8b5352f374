"""Fixes the dynamic dimensions of a model's inputs, for compilers that build for one shape."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from ptqbridge.model.interface import inferred
from ptqbridge.model.walk import all_graphs


class CannotFreeze(Exception):
    """The shapes asked for do not fit the model, or leave a dimension open; the text says which."""


def freeze_shapes(model: onnx.ModelProto, shapes: Mapping[str, Sequence[int]]) -> str:
    """Give every input of ``model`` (in place) a fixed shape; returns a note, empty when all were fixed before.

    ``shapes`` by input name; an input that is not in it gets 1 where its first dimension is dynamic. A dimension with
    a name is fixed wherever the name stands. Shapes inside the model are inferred anew.
    Raises CannotFreeze, the model being untouched then.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    unknown = [name for name in shapes if name not in {value.name for value in inputs}]
    if unknown:
        raise CannotFreeze(f"there is no input {unknown[0]!r}; the inputs are {', '.join(v.name for v in inputs)}")
    named: dict[str, int] = {}
    for value in inputs:
        _learn(value, shapes.get(value.name), named)
    made = {value.name: _fixed(value, shapes.get(value.name), named) for value in inputs}
    changed = []
    for value in inputs:
        dims = value.type.tensor_type.shape.dim
        if any(not _is_fixed(dim) for dim in dims):
            for dim, size in zip(dims, made[value.name], strict=True):
                dim.dim_value = size
            changed.append(f"{value.name}:{'x'.join(map(str, made[value.name]))}")
    if not changed:
        return ""
    for graph in all_graphs(model.graph):
        del graph.value_info[:]
    for value in model.graph.output:
        for dim in value.type.tensor_type.shape.dim:
            if not _is_fixed(dim):
                dim.Clear()
    known = {value.name: value for value in inferred(model).graph.output}
    for value in model.graph.output:
        value.CopyFrom(known.get(value.name, value))
    return f"dynamic dimensions fixed: {', '.join(changed)}"


def _is_fixed(dim: onnx.TensorShapeProto.Dimension) -> bool:
    # Some exporters write dim_value 0 or -1 for "not known".
    return dim.HasField("dim_value") and dim.dim_value > 0


def _learn(value: onnx.ValueInfoProto, given: Sequence[int] | None, named: dict[str, int]) -> None:
    """What the shapes asked for say about dimensions with a name."""
    dims = value.type.tensor_type.shape.dim
    if given is None:
        return
    if len(given) != len(dims):
        raise CannotFreeze(f"input {value.name!r} has {len(dims)} dimensions, the shape given has {len(given)}")
    for dim, size in zip(dims, given, strict=True):
        if _is_fixed(dim) and dim.dim_value != size:
            raise CannotFreeze(f"input {value.name!r} has a fixed dimension {dim.dim_value} where {size} was given")
        if dim.dim_param and named.setdefault(dim.dim_param, size) != size:
            raise CannotFreeze(f"dimension {dim.dim_param!r} cannot be both {named[dim.dim_param]} and {size}")


def _fixed(value: onnx.ValueInfoProto, given: Sequence[int] | None, named: Mapping[str, int]) -> list[int]:
    if given is not None:
        return list(given)
    sizes = []
    for place, dim in enumerate(value.type.tensor_type.shape.dim):
        size = dim.dim_value if _is_fixed(dim) else named.get(dim.dim_param) or (0 if place else 1)
        if not size:
            word = dim.dim_param or "without a name"
            raise CannotFreeze(f"input {value.name!r}: nothing says how large dimension {place} ({word}) is")
        sizes.append(size)
    return sizes
