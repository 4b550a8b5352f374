"""Which tensors are looked at where, and the few nodes added to a model so that ONNX Runtime looks at them itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from ptqbridge.errors import InputError
from ptqbridge.quantize.health import places
from ptqbridge.quantize.ranges import TensorRange
from ptqbridge.quantize.sources import FLOATS, GraphFacts

EMPTY = TensorRange(0.0, 0.0, "empty")
"""The range of a tensor without elements."""

PREFIX = "ptqbridge_"
"""Starts the name of every tensor and node added to a model."""


@dataclass(frozen=True)
class Watch:
    """One tensor computed by the graph that is observed while it runs.

    ``maximum`` and ``minimum`` name scalar outputs of the observed model holding this tensor's extremes; ``minimum``
    is empty when ``never_negative``. ``values`` names the output that holds the tensor itself. What the method in use
    does not need is empty.
    """

    name: str
    never_negative: bool
    maximum: str = ""
    minimum: str = ""
    values: str = ""


@dataclass(frozen=True)
class Observation:
    """The observed model, and what of it to read.

    ``proto`` is the model as given; ``patch`` a serialized ``ModelProto`` of the observers alone, to be appended to the
    serialized ``proto`` (Protocol Buffers merges concatenated messages). ``watches`` are the tensors seen in the graph,
    ``inputs`` the graph inputs seen on the host, ``constants`` the ranges of constants. ``sources`` maps every tensor
    asked for (and not left out) to the one that stands for it; ``left_out`` gives a reason per tensor that has no
    range. ``health`` maps tensors to scalar outputs, their sums: one of them is NaN where an output of the model holds
    NaN, or a watched tensor whose values are not handed out. ``joined`` maps tensors that are not watched to those that
    their elements come from, each of which is, or is joined itself further up.
    """

    proto: onnx.ModelProto
    patch: bytes
    watches: tuple[Watch, ...]
    inputs: tuple[str, ...]
    constants: dict[str, TensorRange]
    sources: dict[str, str]
    left_out: dict[str, str]
    health: dict[str, str]
    joined: dict[str, list[str]] = field(default_factory=dict)

    @property
    def fetches(self) -> list[str]:
        """Names of the outputs to ask ONNX Runtime for."""
        names = [name for watch in self.watches for name in (watch.maximum, watch.minimum, watch.values) if name]
        return names + list(self.health.values())


def observe(
    proto: onnx.ModelProto,
    tensors: Sequence[str],
    *,
    values: bool,
    joins: bool = False,
    facts: GraphFacts | None = None,
) -> Observation:
    """Decide where each of ``tensors`` is looked at, and build the observed model.

    With ``values`` the tensors themselves become outputs, with ``joins`` only those that are no Concat of others; else
    their extremes are reduced inside the graph: a ``ReduceMax`` (behind a ``GlobalMaxPool`` for rank 4, which reads
    ONNX Runtime's blocked layout where a reduction would force a reorder) and, unless proven non-negative, a
    ``ReduceMin``. Those of a ``Concat`` follow from its parts', those of a ``Sigmoid`` from its input's (to the last
    bit or two, as its kernels rise). ``proto`` is neither changed nor copied.

    Raises ``InputError`` when a tensor is not in the model.
    """
    facts = facts or GraphFacts(proto)
    sources: dict[str, str] = {}
    left_out: dict[str, str] = {}
    constants: dict[str, TensorRange] = {}
    inputs: list[str] = []
    watched: list[str] = []
    for name in dict.fromkeys(tensors):
        if name not in facts:
            raise InputError(f"tensor {name!r}: asked for a range, but the model's main graph has no such tensor")
        source = facts.source(name)
        kind = facts.type_of(source)
        if kind is not None and kind.elem_type and kind.elem_type not in FLOATS:
            left_out[name] = f"{TensorProto.DataType.Name(kind.elem_type).lower()}, not a floating-point tensor"
            continue
        if source not in sources.values():
            constant = facts.constant(source)
            if constant is not None:
                constants[source] = _constant_range(source, constant)
            elif source in facts.inputs:
                inputs.append(source)
            elif kind is not None and kind.is_empty:
                constants[source] = EMPTY
            else:
                watched.append(source)
        sources[name] = source
    patch = onnx.ModelProto()
    watches: dict[str, Watch] = {}
    joined = _joined(facts, [*inputs, *watched]) if values and joins else {}
    for index, name in enumerate(watched):
        stem = f"{PREFIX}{index}"
        if name in joined:
            continue
        if values:
            watches[name] = _hand_out(patch.graph, facts, name)
        else:
            derived = _derive(patch.graph, facts, name, stem, watches)
            watches[name] = derived or _watch(patch.graph, facts, name, stem)
    health = _health(patch.graph, facts, () if values else watched)
    seen = tuple(watches.values())
    return Observation(
        proto, patch.SerializeToString(), seen, tuple(inputs), constants, sources, left_out, health, joined
    )


def _joined(facts: GraphFacts, observed: Sequence[str]) -> dict[str, list[str]]:
    """The Concats among ``observed`` of nothing but tensors of it, in graph order, and what they join."""
    known, found = {*observed}, {}
    for name, node in facts.producers.items():
        if node.op_type == "Concat" and node.domain in ("", "ai.onnx") and name in known:
            parts = [facts.source(part) for part in node.input]
            if known.issuperset(parts):
                found[name] = parts
    return found


def _elem_type(facts: GraphFacts, name: str) -> int:
    kind = facts.type_of(name)
    return kind.elem_type if kind is not None and kind.elem_type else TensorProto.FLOAT


def _hand_out(graph: onnx.GraphProto, facts: GraphFacts, name: str) -> Watch:
    if name not in facts.outputs:
        graph.output.append(helper.make_tensor_value_info(name, _elem_type(facts, name), None))
    return Watch(name, facts.never_negative(name), values=name)


def _derive(
    graph: onnx.GraphProto, facts: GraphFacts, name: str, stem: str, watches: Mapping[str, Watch]
) -> Watch | None:
    """A watch that needs no look at the tensor, since those of what it is made of tell its extremes; else ``None``.

    Nor does the tensor's reader then keep ONNX Runtime from fusing it away: ``x * Sigmoid(x)`` becomes one operator.
    """
    node = facts.producers[name]
    parts = [watches[source] for source in map(facts.source, node.input) if source in watches]
    if node.domain not in ("", "ai.onnx") or len(parts) < len(node.input):
        return None
    elem_type = _elem_type(facts, name)
    never_negative = facts.never_negative(name)
    if node.op_type == "Sigmoid" and elem_type == TensorProto.FLOAT:
        return Watch(name, never_negative, _scalar(graph, "Sigmoid", [parts[0].maximum], f"{stem}_max", elem_type))
    if node.op_type == "Concat" and (never_negative or all(part.minimum for part in parts)):
        if elem_type in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
            elem_type = TensorProto.FLOAT  # as the parts' extremes
        maximum = _scalar(graph, "Max", [part.maximum for part in parts], f"{stem}_max", elem_type)
        minimum = (
            "" if never_negative else _scalar(graph, "Min", [part.minimum for part in parts], f"{stem}_min", elem_type)
        )
        return Watch(name, never_negative, maximum, minimum)
    return None


def _watch(graph: onnx.GraphProto, facts: GraphFacts, name: str, stem: str) -> Watch:
    never_negative = facts.never_negative(name)
    kind = facts.type_of(name)
    tensor, elem_type = _wide(graph, name, stem, _elem_type(facts, name))
    peak = tensor
    if kind is not None and kind.rank == 4 and elem_type == TensorProto.FLOAT:
        peak = f"{stem}_peak"
        graph.node.append(helper.make_node("GlobalMaxPool", [tensor], [peak], name=peak))
    maximum = _reduce(graph, "ReduceMax", peak, f"{stem}_max", elem_type)
    minimum = "" if never_negative else _reduce(graph, "ReduceMin", tensor, f"{stem}_min", elem_type)
    return Watch(name, never_negative, maximum, minimum)


def _health(graph: onnx.GraphProto, facts: GraphFacts, watched: Sequence[str]) -> dict[str, str]:
    sums = {}
    for index, name in enumerate(places(facts, watched)):
        stem = f"{PREFIX}health_{index}"
        tensor, elem_type = _wide(graph, name, stem, _elem_type(facts, name))
        # Without the axes kept, older versions of ONNX Runtime take no tensor without elements, such as no detections.
        sums[name] = _scalar(graph, "ReduceSum", [tensor], f"{stem}_sum", elem_type, shape=None, keepdims=1)
    return sums


def _wide(graph: onnx.GraphProto, name: str, stem: str, elem_type: int) -> tuple[str, int]:
    """The tensor, and its type, to be reduced for ``name``: ONNX Runtime's CPU reductions lack the two short floats."""
    if elem_type not in (TensorProto.FLOAT16, TensorProto.BFLOAT16):
        return name, elem_type
    graph.node.append(helper.make_node("Cast", [name], [f"{stem}_float"], name=f"{stem}_float", to=TensorProto.FLOAT))
    return f"{stem}_float", TensorProto.FLOAT


def _reduce(graph: onnx.GraphProto, op_type: str, source: str, output: str, elem_type: int) -> str:
    # Without axes every opset reduces over all of them, so their move from attribute to input (13, 18) does not matter.
    return _scalar(graph, op_type, [source], output, elem_type, keepdims=0)


def _scalar(
    graph: onnx.GraphProto,
    op_type: str,
    sources: Sequence[str],
    output: str,
    elem_type: int,
    shape: Sequence[int] | None = (),
    **attributes: Any,
) -> str:
    graph.node.append(helper.make_node(op_type, sources, [output], name=output, **attributes))
    graph.output.append(helper.make_tensor_value_info(output, elem_type, shape))
    return output


def _constant_range(name: str, value: npt.NDArray[Any]) -> TensorRange:
    if value.size == 0:
        return EMPTY
    low, high = float(value.min()), float(value.max())
    if not np.isfinite(low) or not np.isfinite(high):
        raise InputError(f"tensor {name!r}: the model's constant holds NaN or infinity")
    return TensorRange(low, high, "constant")
