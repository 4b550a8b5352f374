"""A float twin of a model that rounds where and how a scheme's integers would, to judge ranges before a build.

Rounding is done by Q/DQ pairs for activations and in place for weights; everything between stays float32. On the first
sample of a calibration its outputs are, bit for bit but for the order of sums, those of the calibrated model that
hb_mapper 1.24.3 writes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from ptqbridge.quantize.explicit import explicit_placement
from ptqbridge.quantize.graph import GraphIndex, all_names, attribute, new_name
from ptqbridge.quantize.horizon import WEIGHTED, horizon_placement
from ptqbridge.quantize.placement import place
from ptqbridge.quantize.qdq import affine_uint8
from ptqbridge.quantize.ranges import TensorRange

Roots = Mapping[str, str]
"""Rounded tensor -> the tensor whose range it takes, in graph order."""

Affine = tuple[np.float32, npt.NDArray[Any]]
"""Scale, and the zero point as an array of the integer type."""

TOP = np.float32(127)
_SMALLEST = np.float32(1e-15)


def rounded_tensors(proto: onnx.ModelProto, scheme: str) -> Roots:
    """What ``scheme`` rounds in ``proto`` (as `prepare` returns it)."""
    if scheme == "horizon":
        return horizon_placement(proto).root
    if scheme == "tensorrt":
        return {name: name for name in explicit_placement(proto).quantized}
    placement = place(proto, "onnxruntime")
    return {name: placement.root(name) for name in placement.quantized}


def rounding(scheme: str, asymmetric: bool = False) -> Callable[[TensorRange], Affine]:
    """How ``scheme`` rounds an activation.

    onnxruntime: uint8, both ends of the range. tensorrt, horizon: int8, scale = amax / 127; with ``asymmetric``
    (hb_mapper's word for it) a range without negative values becomes uint8 with scale = max / 255.
    """

    def symmetric(found: TensorRange) -> Affine:
        if asymmetric and found.min >= 0:
            return np.maximum(np.float32(found.max) / np.float32(255), _SMALLEST), np.zeros((), np.uint8)
        return np.maximum(np.float32(found.amax) / TOP, _SMALLEST), np.zeros((), np.int8)

    def both_ends(found: TensorRange) -> Affine:
        scale, zero = affine_uint8(found.min, found.max)
        return scale, np.asarray(zero, np.uint8)

    return both_ends if scheme == "onnxruntime" else symmetric


def make_twin(
    proto: onnx.ModelProto,
    roots: Roots,
    ranges: Mapping[str, TensorRange],
    affine: Callable[[TensorRange], Affine],
    *,
    weights: bool = True,
    keep_float: Collection[str] = (),
) -> onnx.ModelProto:
    """A copy of ``proto`` in which the tensors of ``roots`` are rounded, all their readers seeing the rounded values.

    Tensors without a range stay as they are. With ``weights``, the constant weights of Conv, ConvTranspose, Gemm and
    MatMul are rounded to int8, one scale per output channel, but not those of the nodes named in ``keep_float``.
    """
    index, taken = GraphIndex(proto), all_names(proto)
    twin = onnx.ModelProto(ir_version=proto.ir_version)
    chosen = {name: ranges[root] for name, root in roots.items() if root in ranges}
    nodes: list[onnx.NodeProto] = []
    seen: dict[str, str] = {}  # a rounded tensor -> what its readers see
    done: dict[tuple[str, int], str] = {}  # weight and axis -> rounded weight

    def constant(value: npt.NDArray[Any], name: str) -> str:
        name = new_name(name, taken)
        # Filled in place: a list of finished tensors would hold the weights once more.
        kind = onnx.helper.np_dtype_to_tensor_dtype(value.dtype)
        twin.graph.initializer.add(name=name, data_type=kind, dims=value.shape).raw_data = value.tobytes()
        return name

    def pair(name: str, source: str, after: str) -> None:
        scale, zero = affine(chosen[name])
        parameters = [constant(np.asarray(scale), f"{name}_scale"), constant(zero, f"{name}_zero_point")]
        between = new_name(f"{name}_integer", taken)
        for op_type, start, end in (("QuantizeLinear", source, between), ("DequantizeLinear", between, after)):
            node_name = new_name(f"{name}_{op_type}", taken)
            nodes.append(onnx.helper.make_node(op_type, [start, *parameters], [end], node_name))
        seen[name] = after

    for name in index.inputs:
        if name in chosen:
            pair(name, name, new_name(f"{name}_rounded", taken))
    for node in index.nodes:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for slot, name in enumerate(copy.input):
            copy.input[slot] = seen.get(name, name)
        rounds = weights and node.op_type in WEIGHTED and node.name not in keep_float
        if rounds and index.is_float_constant(node.input[1]):
            axis = _output_channel(node, len(index.constants[node.input[1]].dims))
            key = (node.input[1], axis)
            if key not in done:
                value = _rounded_weight(np.asarray(index.array(node.input[1]), np.float32), axis)
                done[key] = constant(value, f"{node.input[1]}_rounded")
            copy.input[1] = done[key]
        outputs = [name for name in node.output if name in chosen]
        raw = {name: new_name(f"{name}_float", taken) for name in outputs if name in index.pinned}
        for slot, name in enumerate(copy.output):
            copy.output[slot] = raw.get(name, name)
        nodes.append(copy)
        for name in outputs:
            pair(name, raw.get(name, name), name if name in raw else new_name(f"{name}_rounded", taken))
    read = {name for node in nodes for name in node.input} | index.pinned
    twin.opset_import.extend(proto.opset_import)
    twin.functions.extend(proto.functions)
    twin.graph.name = proto.graph.name or "graph"
    twin.graph.input.extend(proto.graph.input)
    twin.graph.output.extend(proto.graph.output)
    twin.graph.sparse_initializer.extend(proto.graph.sparse_initializer)
    twin.graph.initializer.extend(tensor for tensor in proto.graph.initializer if tensor.name in read)
    twin.graph.node.extend(nodes)
    return twin


def _output_channel(node: onnx.NodeProto, rank: int) -> int:
    if node.op_type == "Conv" or (node.op_type == "Gemm" and attribute(node, "transB", 0)):
        return 0
    return 1 if node.op_type == "ConvTranspose" else rank - 1


def _rounded_weight(weight: npt.NDArray[np.float32], axis: int) -> npt.NDArray[np.float32]:
    others = tuple(place for place in range(weight.ndim) if place != axis)
    scale = np.maximum(np.abs(weight).max(axis=others, initial=0.0, keepdims=True) / TOP, _SMALLEST)
    rounded: npt.NDArray[np.float32] = (np.clip(np.rint(weight / scale), -TOP, TOP) * scale).astype(np.float32)
    return rounded


def run_floats(model: onnx.ModelProto, samples: list[Mapping[str, npt.NDArray[Any]]]) -> list[list[npt.NDArray[Any]]]:
    """The float outputs of ``model`` for each sample, Q/DQ pairs computed as they stand.

    ONNX Runtime would otherwise turn them into integer kernels, and in newer versions round weights of its own accord.
    """
    import onnxruntime

    from ptqbridge.model.save import MAPPED_FROM, session_model
    from ptqbridge.quantize.memory import forget_bytes, give_back

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    options.enable_cpu_mem_arena = False  # it pays over many runs only
    with session_model(model, mapped_from=MAPPED_FROM) as source:
        del model
        give_back()
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        del source
    forget_bytes(session)
    give_back()
    names = [value.name for value in session.get_outputs() if value.type == "tensor(float)"]
    return [session.run(names, dict(sample)) for sample in samples]
