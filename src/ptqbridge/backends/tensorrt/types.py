"""Edits of element types for strongly typed networks: half precision, per-layer types, types of inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import onnx

from ptqbridge.backends.tensorrt.wildcards import matches
from ptqbridge.errors import InputError
from ptqbridge.model.check import opset_of
from ptqbridge.model.walk import subgraphs
from ptqbridge.plan import Plan
from ptqbridge.quantize.fold import inline_constants
from ptqbridge.quantize.graph import all_names, new_name
from ptqbridge.quantize.half import OPSETS, QDQ, Half, to_half
from ptqbridge.quantize.sources import GraphFacts
from ptqbridge.spec import IOFormat, Precision
from ptqbridge.wording import counted

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
    wanted = _matched(precision, precision.layers, [node.name or node.output[0] for node in model.graph.node])
    layers = {name: words[0] for name, words in wanted.items()}
    asked_half = {name for name, word in layers.items() if word in ("fp16", "bf16")}
    word = kind or next((layers[name] for name in layers if name in asked_half), "")
    if word:
        model = raise_for_half(model, word, done.notes)
        only = None if kind else asked_half
        keep = {name for name, word in layers.items() if word in ("fp32", "int8")}
        half = to_half(model, word, amax=amax, keep=keep - _quantized(model), only=only)
        model = half.proto
        _account(half, amax is None, done, say)
    nodes = [node.name or node.output[0] for node in model.graph.node]
    round_outputs(model, _matched(precision, precision.layer_outputs, nodes), done.notes)
    if "int8" not in precision.allowed:
        asked = [name for name, word in layers.items() if word == "int8"]
        done.notes += [f"{name}: int8 was asked for it, but --int8 was not given" for name in asked]
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
    say(f"{half.kind}: {counted(len(half.half), 'node')}, {len(half.kept)} stay fp32, {counted(half.casts, 'cast')}")
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


def _matched(
    precision: Precision, asked: Mapping[str, tuple[str, ...]], nodes: Sequence[str]
) -> dict[str, tuple[str, ...]]:
    """The type words asked for each node; a name beats a pattern, and nothing counts without constraints."""
    if precision.constraints == "none":
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for pattern, words in asked.items():
        found.update({name: words for name in nodes if matches(pattern, name)})
    found.update({name: words for name, words in asked.items() if name in set(nodes)})
    return found


def round_outputs(model: onnx.ModelProto, asked: Mapping[str, tuple[str, ...]], notes: list[str]) -> None:
    """Round outputs of single layers to fp16 or bf16, by a Cast there and back behind the layer.

    An output that is half precision already, and other types, follow from the layers around: the notes say so.
    """
    taken = all_names(model)
    facts = GraphFacts(model)
    nodes: list[onnx.NodeProto] = []
    for node in [onnx.NodeProto.FromString(node.SerializeToString()) for node in model.graph.node]:
        nodes.append(node)
        words = asked.get(node.name or node.output[0], ())
        for place, name in enumerate(node.output if words else ()):
            word = words[place] if len(words) > 1 else words[0]
            kind = facts.type_of(name)
            if word not in ("fp16", "bf16") or kind is None or kind.elem_type != IO_TYPES["fp32"]:
                notes.append(f"{node.name or name}: output type {word} follows from the layers around it")
                continue
            raw, small = new_name(f"{name}_raw", taken), new_name(f"{name}_{word}", taken)
            node.output[place] = raw
            label = new_name(f"{name}_rounded", taken)
            nodes.append(onnx.helper.make_node("Cast", [raw], [small], f"{label}_1", to=IO_TYPES[word]))
            nodes.append(onnx.helper.make_node("Cast", [small], [name], f"{label}_2", to=IO_TYPES["fp32"]))
    del model.graph.node[:]
    model.graph.node.extend(nodes)


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
        _rename(model.graph.node, value.name, inner, written=side == "output")
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


def _rename(nodes: Iterable[onnx.NodeProto], old: str, new: str, *, written: bool) -> None:
    """Give a tensor another name wherever it is read, in subgraphs too; ``written``: where it is made as well."""
    for node in nodes:
        for place, name in enumerate(node.input):
            if name == old:
                node.input[place] = new
        for place, name in enumerate(node.output if written else ()):
            if name == old:
                node.output[place] = new
        for graph in subgraphs(node):
            _rename(graph.node, old, new, written=False)
