"""What the optimised graph consists of, as trtexec's layer information."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ptqbridge.backends.onnxruntime.buffers import bind
from ptqbridge.backends.onnxruntime.profiler import Event, profiled, read_runs
from ptqbridge.backends.onnxruntime.session import SessionPolicy, open_session, runtime_errors
from ptqbridge.errors import InputError

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray

DETAIL_KEY = "ptqbridge.layer_detail"
"""The artifact's metadata entry for how much layer information tells: ``names`` (default), ``detailed`` or ``none``."""

Layers = list[str | Mapping[str, Any]]

_FORMATS = {
    "float": "Row major linear FP32",
    "float16": "Row major linear FP16 format",
    "int8": "Row major Int8 format",
    "int32": "Row major linear Int32",
    "bool": "Row major linear BOOL",
    "uint8": "Row major linear UInt8",
    "int64": "Row major linear Int64",
    "double": "Row major linear FP64",
    "blocked float": "Channel blocked FP32 (NCHWc)",
}
"""How TensorRT's engine inspector writes plain formats; trt-engine-explorer (trex/activations.py) knows the first five
and takes any other for "Unknown format"."""
_TYPES = {"float": "Float", "float16": "Half", "int8": "Int8", "uint8": "UInt8", "int32": "Int32", "int64": "Int64"}
_TYPE_WORDS = {1: "float", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 9: "bool", 10: "float16", 11: "double"}
_BLOCKED_DOMAIN = "com.microsoft.nchwc"  # its tensors hold channels in blocks of the vector width
_BIAS_AT = {"Conv": 2, "FusedConv": 2, "ConvTranspose": 2, "Gemm": 2, "FusedGemm": 2, "QLinearConv": 8, "QGemm": 6}


def layer_info(
    artifact: str, policy: SessionPolicy, detail: str, bindings: Sequence[str], arrays: Mapping[str, NDArray[Any]]
) -> tuple[Layers, list[str]]:
    """Layers and bindings of ``artifact`` as ONNX Runtime runs it at this optimisation level.

    ``detail`` ``names`` gives names; ``detailed`` gives objects, for whose shapes one query is run on ``arrays``;
    ``none`` gives no layers.

    Raises:
        InputError: no session can be made, or the query fails.
    """
    if detail == "none":
        return [], list(bindings)
    with tempfile.TemporaryDirectory(prefix="ptqbridge-layers-") as folder:
        file = Path(folder) / "optimized.onnx"
        if detail != "detailed":
            open_session(artifact, policy, optimized_to=file)
            return list(_names(_read(file, artifact))), list(bindings)
        with profiled(artifact, policy, optimized_to=str(file)) as (session, end):
            with runtime_errors(f"{artifact}: the query failed"):
                bind(session, arrays)
            events = next(read_runs(end()), [])
        shapes = {name: array.shape for name, array in arrays.items()}
        return list(_details(_read(file, artifact), events, shapes)), list(bindings)


def _read(file: Path, artifact: str) -> onnx.ModelProto:
    import onnx

    try:
        return onnx.load(str(file), load_external_data=False)
    except OSError as error:
        raise InputError(f"{artifact}: ONNX Runtime wrote no optimised graph: {error.strerror}") from error


def _names(model: onnx.ModelProto) -> list[str]:
    return [_name(node) for node in model.graph.node]


def _name(node: onnx.NodeProto) -> str:
    return str(node.name) or f"{node.op_type} -> {node.output[0]}"


def _details(
    model: onnx.ModelProto, events: Sequence[Event], shapes: Mapping[str, tuple[int, ...]]
) -> list[dict[str, Any]]:
    """One object per node. The graph file is in execution order, and so are the events."""
    nodes = list(model.graph.node)
    types = _declared(model)
    types.update({name: (types[name][0], shape) for name, shape in shapes.items() if name in types})
    if [node.op_type for node in nodes] == [event.operator for event in events]:
        for node, event in zip(nodes, events, strict=True):
            made = [name for name in node.output if name]
            if len(made) == len(event.outputs):
                types.update(zip(made, event.outputs, strict=True))
    for node in nodes:
        if node.domain == _BLOCKED_DOMAIN and node.op_type != "ReorderOutput":
            types.update({name: (f"blocked {types[name][0]}", types[name][1]) for name in node.output if name in types})
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    return [_detail(node, types, constants) for node in nodes]


def _detail(
    node: onnx.NodeProto, types: Mapping[str, tuple[str, tuple[int, ...]]], constants: Mapping[str, onnx.TensorProto]
) -> dict[str, Any]:
    import onnx

    detail: dict[str, Any] = {
        "Name": _name(node),
        "LayerType": node.op_type,
        "Inputs": [_tensor(name, types) for name in node.input if name and name not in constants],
        "Outputs": [_tensor(name, types) for name in node.output if name],
        "Domain": node.domain or "ai.onnx",
    }
    attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute if not _is_big(item)}
    detail["Attributes"] = {name: _plain(value) for name, value in attributes.items()}
    held = [constants[name] for name in node.input if name in constants]
    bias_at = _BIAS_AT.get(node.op_type, len(node.input))
    bias = constants.get(node.input[bias_at]) if bias_at < len(node.input) else None
    if weights := [tensor for tensor in held if len(tensor.dims) > 1 and tensor is not bias]:
        detail["Weights"] = _constant(max(weights, key=_count))
    if bias is not None:
        detail["Bias"] = _constant(bias)
    return detail


def _tensor(name: str, types: Mapping[str, tuple[str, tuple[int, ...]]]) -> dict[str, Any]:
    kind, shape = types.get(name, ("", ()))
    return {
        "Name": name,
        "Location": "Host",
        "Dimensions": list(shape),
        "Format/Datatype": _FORMATS.get(kind, "Unknown format"),
    }


def _declared(model: onnx.ModelProto) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Type and shape of inputs, outputs and what lies between, as far as the graph states them; -1 for open."""
    found = {}
    for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        tensor = value.type.tensor_type
        shape = tuple(int(dim.dim_value) if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim)
        found[value.name] = (_TYPE_WORDS.get(tensor.elem_type, ""), shape)
    return found


def _constant(tensor: onnx.TensorProto) -> dict[str, Any]:
    word = _TYPE_WORDS.get(tensor.data_type, "")
    return {"Type": _TYPES.get(word, word), "Count": _count(tensor)}


def _count(tensor: onnx.TensorProto) -> int:
    count = 1
    for size in tensor.dims:
        count *= int(size)
    return count


def _is_big(attribute: onnx.AttributeProto) -> bool:
    """Subgraphs and tensors, which are no plain data."""
    return bool(attribute.HasField("g") or attribute.graphs or attribute.HasField("t") or attribute.tensors)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, (int, float, str)):
        return value
    return [_plain(item) for item in value]
