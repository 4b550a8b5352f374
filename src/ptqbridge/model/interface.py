"""The inputs and outputs of an ONNX graph as TensorSpec."""

from __future__ import annotations

from pathlib import Path

import onnx

from ptqbridge.errors import InputError
from ptqbridge.model.external import tensor_bytes
from ptqbridge.spec.tensor import TensorSpec

ANY_RANK: tuple[int | str, ...] = ("...",)
"""The shape of an output whose rank neither the model nor shape inference tells."""


def read_interface(proto: onnx.ModelProto, path: Path) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs that are no initializers, and outputs, in graph order; outputs of unknown rank get ``ANY_RANK``.

    Raises InputError for an input without rank, and for a sequence, map or optional on either side.
    """
    graph = proto.graph
    constants = {tensor.name for tensor in graph.initializer}
    inputs = []
    for value in graph.input:
        if value.name in constants:
            continue
        spec = tensor_spec(value, path, "input")
        if spec.shape == ANY_RANK:
            raise InputError(f"model {path}: input {value.name!r} has no shape; give it one when exporting")
        inputs.append(spec)
    outputs = [tensor_spec(value, path, "output") for value in graph.output]
    if any(spec.shape == ANY_RANK or not spec.dtype for spec in outputs):
        known = {value.name: value for value in inferred(proto).graph.output}
        outputs = [
            tensor_spec(known[spec.name], path, "output") if spec.shape == ANY_RANK or not spec.dtype else spec
            for spec in outputs
        ]
    return tuple(inputs), tuple(outputs)


def tensor_spec(value: onnx.ValueInfoProto, path: Path, what: str) -> TensorSpec:
    """One graph input or output; ``dtype`` is ``""`` when the model does not state it."""
    kind = value.type.WhichOneof("value")
    if kind is None:
        return TensorSpec(value.name, "", ANY_RANK)
    if kind != "tensor_type":
        raise InputError(f"model {path}: {what} {value.name!r} is a {kind.removesuffix('_type')}; expected a tensor")
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return TensorSpec(value.name, dtype_name(tensor.elem_type), ANY_RANK)
    shape = tuple(dim.dim_value if dim.HasField("dim_value") else dim.dim_param for dim in tensor.shape.dim)
    # Some exporters write dim_value 0 or -1 for "not known".
    return TensorSpec(
        value.name,
        dtype_name(tensor.elem_type),
        tuple("" if isinstance(dim, int) and dim <= 0 else dim for dim in shape),
    )


def dtype_name(elem_type: int) -> str:
    """NumPy's name of an ONNX element type (``bfloat16`` and the like by their own name, ``""`` when undefined)."""
    if elem_type == onnx.TensorProto.UNDEFINED:
        return ""
    name: str = onnx.TensorProto.DataType.Name(elem_type).lower()
    return {"float": "float32", "double": "float64", "string": "object"}.get(name, name)


def inferred(proto: onnx.ModelProto) -> onnx.ModelProto:
    """``proto`` after shape inference, weights of more than 1 kB left out (their shapes suffice)."""
    light = onnx.ModelProto(ir_version=max(proto.ir_version, 4))
    light.opset_import.extend(proto.opset_import)
    light.functions.extend(proto.functions)
    light.graph.node.extend(proto.graph.node)
    light.graph.input.extend(proto.graph.input)
    light.graph.output.extend(proto.graph.output)
    light.graph.name = proto.graph.name or "graph"
    declared = {value.name for value in proto.graph.input}
    for tensor in proto.graph.initializer:
        if (tensor_bytes(tensor) or 0) <= 1024 and not tensor.external_data:
            light.graph.initializer.append(tensor)
        elif tensor.name not in declared:
            light.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    try:
        return onnx.shape_inference.infer_shapes(light)
    except Exception:  # inference is a help, not a judge: ONNX Runtime decides on what it cannot infer
        return proto
