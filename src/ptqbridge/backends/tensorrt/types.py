"""Edits of element types for strongly typed networks: half precision, per-layer types, types of inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from ptqbridge.errors import InputError
from ptqbridge.model.check import opset_of
from ptqbridge.plan import Plan
from ptqbridge.quantize.fold import inline_constants
from ptqbridge.quantize.graph import all_names, new_name
from ptqbridge.quantize.half import OPSETS, QDQ, Half, to_half
from ptqbridge.spec import IOFormat, Precision

if TYPE_CHECKING:
    from ptqbridge.backends.tensorrt.prepare import Prepared

IO_TYPES = {
    "fp32": onnx.TensorProto.FLOAT,
    "fp16": onnx.TensorProto.FLOAT16,
    "bf16": onnx.TensorProto.BFLOAT16,
    "int8": onnx.TensorProto.INT8,
    "uint8": onnx.TensorProto.UINT8,
    "int32": onnx.TensorProto.INT32,
    "int64": onnx.TensorProto.INT64,
    "bool": onnx.TensorProto.BOOL,
}
Say = Callable[[str], None]


def half_kind(precision: Precision) -> str:
    """fp16 or bf16, whichever the plan casts to; "" for none. fp16 wins where both are allowed, as in --best."""
    return next((kind for kind in ("fp16", "bf16") if kind in precision.allowed), "")


def edit_types(
    proto: onnx.ModelProto, plan: Plan, amax: Mapping[str, float] | None, done: Prepared, say: Say
) -> onnx.ModelProto:
    """Write the types that the options ask for into the model. ``amax`` are known magnitudes of activations.

    Raises InputError for an INT8 input or output whose range is unknown, and for a type that ONNX cannot cast to.
    """
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    inline_constants(model)
    precision = plan.build.precision
    kind = half_kind(precision)
    layers = _layers(precision, [node.name or node.output[0] for node in model.graph.node])
    asked_half = {name for name, word in layers.items() if word in ("fp16", "bf16")}
    word = kind or next((layers[name] for name in layers if name in asked_half), "")
    if word:
        model = raise_for_half(model, word, done.notes)
        only = None if kind else asked_half
        keep = {name for name, word in layers.items() if word in ("fp32", "int8")}
        half = to_half(model, word, amax=amax, keep=keep - _quantized(model), only=only)
        model = half.proto
        _account(half, amax is None, done, say)
    _edit_ends(model, "input", plan.build.input_formats, amax or {})
    _edit_ends(model, "output", plan.build.output_formats, amax or {})
    return model


def raise_for_half(model: onnx.ModelProto, kind: str, notes: list[str]) -> onnx.ModelProto:
    """A model of an opset that has ``kind`` everywhere, where it needs one and the raise works; else as it is.

    fp16 needs it beside Q/DQ only, bf16 always.
    """
    wanted = OPSETS[kind]
    quantized = any(node.op_type in QDQ for node in model.graph.node)
    if opset_of(model) >= wanted or (kind == "fp16" and not quantized):
        return model
    effect = "layers beside Q/DQ stay fp32" if kind == "fp16" else "many layers stay fp32"
    try:
        raised = onnx.version_converter.convert_version(model, wanted)
        raised.ir_version = max(raised.ir_version, 9 if wanted < 21 else 10)
        onnx.checker.check_model(raised)
    except Exception as error:  # the converter raises RuntimeError and its own kinds
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        notes.append(f"opset not raised to {wanted}, so {effect}: {reason}")
        return model
    notes.append(f"opset {opset_of(model)} raised to {wanted}, which has {kind} throughout")
    return raised


def _account(half: Half, unseen: bool, done: Prepared, say: Say) -> None:
    done.facts["half"] = {"type": half.kind, "layers": len(half.half), "fp32": half.kept, "casts": half.casts}
    say(f"{half.kind}: {len(half.half)} nodes, {len(half.kept)} stay fp32, {half.casts} casts")
    if unseen and half.kind == "fp16":
        done.notes.append("activations were not checked against fp16's range: there is no --calibData or --calib")
    reasons: dict[str, list[str]] = {}
    for name, why in half.kept.items():
        reasons.setdefault(why, []).append(name)
    for why, names in reasons.items():
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        done.notes.append(f"fp32: {shown}: {why}")


def _quantized(model: onnx.ModelProto) -> set[str]:
    """Nodes that read dequantized values: int8 is met there, and half precision is only their outer type."""
    made = {name for node in model.graph.node if node.op_type == "DequantizeLinear" for name in node.output}
    return {node.name for node in model.graph.node if made.intersection(node.input)}


def _layers(precision: Precision, nodes: Sequence[str]) -> dict[str, str]:
    """The type asked for each node by --layerPrecisions; a name beats a pattern."""
    if precision.constraints == "none":
        return {}
    found: dict[str, str] = {}
    for pattern, words in precision.layers.items():
        plain = pattern.replace("[", "[[]").replace("?", "[?]")
        found.update({name: words[0] for name in nodes if "*" in pattern and fnmatchcase(name, plain)})
    found.update({name: words[0] for name, words in precision.layers.items() if name in set(nodes)})
    return found


def _edit_ends(model: onnx.ModelProto, side: str, formats: Sequence[IOFormat], amax: Mapping[str, float]) -> None:
    """Give inputs or outputs other element types, with a Cast (INT8: Q or DQ) to or from the type inside."""
    constants = {tensor.name for tensor in model.graph.initializer}
    ends = [value for value in getattr(model.graph, side) if value.name not in constants]
    taken = all_names(model)
    for index, value in enumerate(ends):
        word = formats[0 if len(formats) == 1 else index].dtype if formats else ""
        inside = value.type.tensor_type.elem_type
        if not word or IO_TYPES.get(word) == inside:
            continue
        if word not in IO_TYPES:
            raise InputError(f"{side} {value.name!r}: {word} cannot be written into an ONNX model here")
        inner = new_name(f"{value.name}_inside", taken)
        if side == "input":
            _rename(model.graph.node, value.name, inner, reading=True)
        else:
            _rename(model.graph.node, value.name, inner, reading=False)
        source, target = (value.name, inner) if side == "input" else (inner, value.name)
        label = new_name(f"{value.name}_type", taken)
        if word == "int8":
            nodes = [_int8(model, side, value.name, source, target, label, amax, taken)]
        else:
            to = inside if side == "input" else IO_TYPES[word]
            nodes = [onnx.helper.make_node("Cast", [source], [target], label, to=to)]
        old = [onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node]
        del model.graph.node[:]
        model.graph.node.extend([*nodes, *old] if side == "input" else [*old, *nodes])
        value.type.tensor_type.elem_type = IO_TYPES[word]


def _int8(
    model: onnx.ModelProto,
    side: str,
    name: str,
    source: str,
    target: str,
    label: str,
    amax: Mapping[str, float],
    taken: set[str],
) -> onnx.NodeProto:
    if name not in amax:
        raise InputError(f"{side} {name!r}: int8 needs its range, from --calib or --calibData")
    scale = new_name(f"{name}_io_scale", taken)
    zero = new_name(f"{name}_io_zero_point", taken)
    number = np.float32(max(amax[name] / 127.0, 2.0**-126))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(number), scale))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(0, np.int8), zero))
    kind = "DequantizeLinear" if side == "input" else "QuantizeLinear"
    return onnx.helper.make_node(kind, [source, scale, zero], [target], label)


def _rename(nodes: Iterable[Any], old: str, new: str, *, reading: bool) -> None:
    for node in nodes:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = new
        if not reading:
            for place, name in enumerate(node.output):
                if name == old:
                    node.output[place] = new
