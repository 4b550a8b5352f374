"""Folding on a float model, in place: Constant nodes, arithmetic on constants, scales and shifts into Conv."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from ptqbridge.model.external import tensor_bytes
from ptqbridge.model.save import session_model
from ptqbridge.model.walk import subgraphs
from ptqbridge.quantize.graph import GraphIndex, all_names, attribute, new_name

if TYPE_CHECKING:
    import numpy.typing as npt

    Float64 = npt.NDArray[np.float64]

_RANDOM = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
_FOLD_LIMIT = 1 << 16  # bytes: a larger result is only stored when it is no larger than what it is made from


def inline_constants(model: onnx.ModelProto) -> str:
    """Constant nodes of the main graph become initializers."""
    kept = []
    for node in model.graph.node:
        tensor = _constant_value(node)
        if tensor is None:
            kept.append(node)
        else:
            model.graph.initializer.append(tensor)
    _replace_nodes(model, kept)
    return ""


def _constant_value(node: onnx.NodeProto) -> onnx.TensorProto | None:
    if node.op_type != "Constant" or node.domain not in ("", "ai.onnx"):
        return None
    name = node.output[0]
    value = attribute(node, "value")
    if value is not None:
        tensor = onnx.TensorProto()
        tensor.CopyFrom(value)
        tensor.name = name
        return tensor
    for key, dtype in (("value_float", np.float32), ("value_floats", np.float32), ("value_int", np.int64)):
        if (value := attribute(node, key)) is not None:
            return onnx.numpy_helper.from_array(np.asarray(value, dtype), name)
    if (value := attribute(node, "value_ints")) is not None:
        return onnx.numpy_helper.from_array(np.asarray(value, np.int64), name)
    return None


def fold_constants(model: onnx.ModelProto) -> str:
    """Compute the nodes that depend on constants only, by ONNX Runtime itself, and store the results (in place)."""
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    known = set(constants)
    foldable: list[onnx.NodeProto] = []
    for node in model.graph.node:
        plain = node.domain in ("", "ai.onnx") and node.op_type not in _RANDOM and not any(subgraphs(node))
        if plain and node.input and all(name in known for name in node.input if name):
            foldable.append(node)
            known.update(node.output)
    if not foldable:
        return ""
    made = {name for node in foldable for name in node.output if name}
    inside = {id(node) for node in foldable}
    pinned = GraphIndex(model).pinned
    needed = [
        name
        for name in dict.fromkeys(name for node in model.graph.node if id(node) not in inside for name in node.input)
        if name in made
    ]
    needed += [name for name in made if name in pinned and name not in needed]
    values = _evaluate(model, foldable, needed, constants)
    if values is None:
        return ""
    source = sum(tensor_bytes(constants[name]) or 0 for node in foldable for name in node.input if name in constants)
    if sum(value.nbytes for value in values.values()) > max(source, _FOLD_LIMIT):
        return ""
    outputs = {value.name for value in model.graph.output}
    if outputs & made:
        return ""  # a constant output is rare and harmless: left as it is
    for name, value in values.items():
        model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))
    _replace_nodes(model, [node for node in model.graph.node if id(node) not in inside])
    return f"{len(foldable)} nodes of constants computed"


def _evaluate(
    model: onnx.ModelProto, nodes: list[onnx.NodeProto], wanted: list[str], constants: dict[str, onnx.TensorProto]
) -> dict[str, npt.NDArray[Any]] | None:
    """The tensors ``wanted`` as ONNX Runtime computes them; None when it cannot."""
    import onnxruntime

    part = onnx.ModelProto(ir_version=model.ir_version)
    part.opset_import.extend(model.opset_import)
    part.graph.name = "constants"
    part.graph.node.extend(nodes)
    used = dict.fromkeys(name for node in nodes for name in node.input if name in constants)
    part.graph.initializer.extend(constants[name] for name in used)
    part.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    try:
        with session_model(part) as source:
            session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        return dict(zip(wanted, session.run(wanted, {}), strict=True))
    except Exception:  # folding is only an improvement: what cannot be computed here is left in the graph
        return None


def fold_into_conv(model: onnx.ModelProto) -> str:
    """Fold what scales or shifts the channels of a Conv's result into its weights (in place).

    That is BatchNormalization and Add, Sub, Mul, Div with a constant per channel: y = conv(x) * f + s, so W' = W * f
    and b' = b * f + s. Factors are computed in float64. The Conv takes over the name of the last tensor.
    """
    index = GraphIndex(model)
    taken = all_names(model)
    folded: list[onnx.NodeProto] = []
    for conv in index.nodes:
        if conv.op_type != "Conv" or not all(index.is_float_constant(name) for name in conv.input[1:] if name):
            continue
        chain, factor, shift = _channel_chain(index, conv)
        if not chain:
            continue
        weight = np.asarray(index.array(conv.input[1]), np.float32)
        bias = index.array(conv.input[2]).astype(np.float64) if len(conv.input) > 2 and conv.input[2] else 0.0
        with np.errstate(all="ignore"):
            new_weight = weight * factor.astype(np.float32).reshape(-1, *[1] * (weight.ndim - 1))
            new_bias = (bias * factor + shift).astype(np.float32)
        if not (np.isfinite(new_weight).all() and np.isfinite(new_bias).all()):
            continue
        names = [new_name(f"{conv.output[0]}_{part}", taken) for part in ("weight", "bias")]
        for name, value in zip(names, (new_weight, new_bias), strict=True):
            # Filled in place: a finished tensor would be copied once more.
            tensor = model.graph.initializer.add(name=name, data_type=onnx.TensorProto.FLOAT, dims=value.shape)
            tensor.raw_data = value.tobytes()
        del conv.input[1:]
        conv.input.extend(names)
        conv.output[0] = chain[-1].output[0]
        folded.extend(chain)
    if not folded:
        return ""
    gone = {node.name for node in folded}
    _replace_nodes(model, [node for node in model.graph.node if node.name not in gone])
    counts = Counter(node.op_type for node in folded)
    return f"{', '.join(f'{count} {op}' for op, count in counts.items())} folded into the Conv before"


def _channel_chain(index: GraphIndex, conv: onnx.NodeProto) -> tuple[list[onnx.NodeProto], Float64, Float64]:
    """The nodes after ``conv`` that only scale and shift its channels; together they do x * factor + shift."""
    dims = index.constants[conv.input[1]].dims
    factor, shift = np.ones(dims[0]), np.zeros(dims[0])
    chain: list[onnx.NodeProto] = []
    name = conv.output[0]
    while (position := index.only_reader(name)) is not None:
        node = index.nodes[position]
        with np.errstate(all="ignore"):
            change = _scale_and_shift(index, node, name, dims[0], len(dims))
            if change is None:
                break
            factor, shift = factor * change[0], shift * change[0] + change[1]
        chain.append(node)
        name = node.output[0]
    return chain, factor, shift


def _scale_and_shift(
    index: GraphIndex, node: onnx.NodeProto, name: str, channels: int, rank: int
) -> tuple[Float64 | float, Float64 | float] | None:
    """(f, s) when ``node`` computes ``name * f + s`` with constants per channel, else None."""
    if node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "BatchNormalization":
        if attribute(node, "training_mode", 0) or len(node.output) > 1 or node.input[0] != name:
            return None
        if not all(index.is_float_constant(item) for item in node.input[1:5]):
            return None
        gamma, beta, mean, variance = (index.array(item).astype(np.float64) for item in node.input[1:5])
        factor = gamma / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
        return factor, beta - mean * factor
    if node.op_type not in ("Add", "Sub", "Mul", "Div") or node.input[0] == node.input[1]:
        return None
    first = node.input[0] == name
    constant = _per_channel(index, node.input[1 if first else 0], channels, rank)
    if constant is None or (node.op_type == "Div" and not first):
        return None
    if node.op_type == "Sub":
        return (1.0, -constant) if first else (-1.0, constant)
    if node.op_type == "Add":
        return 1.0, constant
    return (constant, 0.0) if node.op_type == "Mul" else (1.0 / constant, 0.0)


def _per_channel(index: GraphIndex, name: str, channels: int, rank: int) -> Float64 | None:
    """The constant ``name`` as one value per channel (axis 1), or None when it varies along another axis."""
    if not index.is_float_constant(name):
        return None
    value = index.array(name).astype(np.float64)
    shape = (1,) * (rank - value.ndim) + value.shape
    if len(shape) > rank or shape[1] not in (1, channels) or value.size != shape[1]:
        return None
    result: Float64 = np.broadcast_to(value.reshape(-1), (channels,))
    return result


def _replace_nodes(model: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> None:
    """Make ``nodes`` (some of the model's own) the nodes of the graph, and drop initializers nobody reads any more."""
    copies = []
    for node in nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copies.append(copy)
    del model.graph.node[:]
    model.graph.node.extend(copies)
    index = GraphIndex(model)
    used = set(index.readers) | index.pinned
    for position in range(len(model.graph.initializer) - 1, -1, -1):
        if model.graph.initializer[position].name not in used:
            del model.graph.initializer[position]
