"""Folding on a float model, in place: Constant nodes, arithmetic on constants, BatchNormalization into Conv."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from ptqbridge.model.external import tensor_bytes
from ptqbridge.model.save import session_model
from ptqbridge.model.walk import subgraphs
from ptqbridge.quantize.graph import GraphIndex, all_names, attribute, new_name

if TYPE_CHECKING:
    import numpy.typing as npt

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


def fold_batch_norm(model: onnx.ModelProto) -> str:
    """Fold BatchNormalization into the Conv before it (in place); its factors are computed in float64.

    y = gamma * (conv(x) + b - mean) / sqrt(var + epsilon) + beta, so W' = W * f and b' = (b - mean) * f + beta with
    f = gamma / sqrt(var + epsilon) per output channel. The Conv takes over the name of the normalized tensor.
    """
    index = GraphIndex(model)
    taken = all_names(model)
    gone: set[str] = set()
    for node in index.nodes:
        if node.op_type != "BatchNormalization" or attribute(node, "training_mode", 0) or len(node.output) > 1:
            continue
        position = index.maker.get(node.input[0])
        conv = index.nodes[position] if position is not None else None
        if conv is None or conv.op_type != "Conv" or index.only_reader(node.input[0]) is None:
            continue
        parameters = [conv.input[1], *node.input[1:5], *conv.input[2:3]]
        if not all(index.is_float_constant(name) for name in parameters if name):
            continue
        gamma, beta, mean, variance = (index.array(name).astype(np.float64) for name in node.input[1:5])
        with np.errstate(all="ignore"):
            factor = gamma / np.sqrt(variance + attribute(node, "epsilon", 1e-5))
        weight = index.array(conv.input[1])
        bias = index.array(conv.input[2]).astype(np.float64) if len(conv.input) > 2 and conv.input[2] else 0.0
        with np.errstate(all="ignore"):
            folded = weight * factor.astype(np.float32).reshape(-1, *[1] * (weight.ndim - 1))
            shifted = ((bias - mean) * factor + beta).astype(np.float32)
        if not (np.isfinite(folded).all() and np.isfinite(shifted).all()):
            continue
        names = [new_name(f"{conv.output[0]}_{part}", taken) for part in ("weight", "bias")]
        for name, value in zip(names, (folded, shifted), strict=True):
            # Filled in place: a finished tensor would be copied once more.
            tensor = model.graph.initializer.add(name=name, data_type=onnx.TensorProto.FLOAT, dims=value.shape)
            tensor.raw_data = value.tobytes()
        del conv.input[1:]
        conv.input.extend(names)
        conv.output[0] = node.output[0]
        gone.add(node.name)
    if not gone:
        return ""
    _replace_nodes(model, [node for node in model.graph.node if node.name not in gone])
    return f"{len(gone)} BatchNormalization folded into the Conv before"


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
