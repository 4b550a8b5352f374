"""Which tensors of a model a scheme needs ranges of, and whether a file of ranges covers them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import onnx

from ptqbridge.errors import InputError
from ptqbridge.quantize.formats.match import pair
from ptqbridge.quantize.placement import observed_tensors
from ptqbridge.quantize.prepare import prepare, refuse_quantized
from ptqbridge.quantize.ranges import Ranges
from ptqbridge.quantize.sources import FLOATS, GraphFacts

SCHEMES = ("tensorrt", "horizon", "onnxruntime")


@dataclass(frozen=True)
class Coverage:
    """What ranges have of what a model needs.

    ``needed``: tensors the scheme wants, in graph order. ``moved``: name in the file -> tensor it stands for by its
    position. ``missing``: needed but not there. ``spare``: in the model, but not needed. ``unknown``: not in the model.
    """

    scheme: str
    needed: tuple[str, ...]
    moved: Mapping[str, str]
    missing: tuple[str, ...]
    spare: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def covered(self) -> int:
        """How many of the needed tensors have a range."""
        return len(self.needed) - len(self.missing)

    @property
    def percent(self) -> float:
        """Share of the needed tensors that have a range; 100 when none is needed."""
        return 100.0 * self.covered / len(self.needed) if self.needed else 100.0


def needed_tensors(proto: onnx.ModelProto, scheme: str) -> list[str]:
    """The tensors of a float model that ``scheme`` needs ranges of, in graph order.

    ``onnxruntime``: what its Q/DQ placement quantizes. ``tensorrt`` and ``horizon``: every float tensor that is not
    constant, since TensorRT falls back to higher precision at each tensor that its cache lacks.
    Raises InputError for a model that is quantized already, and ValueError for another scheme.
    """
    if scheme not in SCHEMES:
        raise ValueError(f"unknown scheme {scheme!r}; expected one of {', '.join(SCHEMES)}")
    if scheme == "onnxruntime":
        return observed_tensors(prepare(proto).proto, scheme)
    refuse_quantized(proto)
    return float_tensors(proto)


def float_tensors(proto: onnx.ModelProto) -> list[str]:
    """Inputs and node outputs of the main graph that hold floats, without constants, in graph order.

    Where ONNX's shape inference does not know a tensor's type, ONNX Runtime is asked.
    """
    facts = GraphFacts(proto)
    made = [name for node in proto.graph.node if node.op_type != "Constant" for name in node.output if name]
    kinds: dict[str, bool] = {}
    for name in (*facts.inputs, *made):
        kind = facts.type_of(name)
        if kind is not None and kind.elem_type:
            kinds[name] = kind.elem_type in FLOATS
    if unsure := [name for name in made if name not in kinds]:
        kinds.update(_asked_of_runtime(proto, unsure))
    return [name for name in dict.fromkeys((*facts.inputs, *made)) if kinds.get(name)]


def _asked_of_runtime(proto: onnx.ModelProto, names: list[str]) -> dict[str, bool]:
    """Whether tensors hold floats, by making them outputs of a session that is never run."""
    import onnxruntime

    from ptqbridge.model.save import session_model

    model = onnx.ModelProto()
    model.CopyFrom(proto)
    present = {value.name for value in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in present)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        with session_model(model) as source:
            session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        reason = " ".join(str(error).split())
        raise InputError(f"ONNX Runtime cannot load the model: {reason}") from None
    words = {f"tensor({word})" for word in ("float", "double", "float16", "bfloat16")}
    return {value.name: value.type in words for value in session.get_outputs()}


def verify(ranges: Ranges, proto: onnx.ModelProto, scheme: str) -> Coverage:
    """Compare the names in ``ranges`` with what ``proto`` needs. Raises as ``needed_tensors``."""
    needed = needed_tensors(proto, scheme)
    present = _all_names(proto)
    spare = tuple(name for name in ranges.tensors if name in present and name not in set(needed))
    pairs = pair([name for name in ranges.tensors if name not in set(spare)], needed)
    return Coverage(scheme, tuple(needed), pairs.moved, pairs.only_right, spare, pairs.only_left)


def fitted(ranges: Ranges, coverage: Coverage) -> Ranges:
    """``ranges`` with the model's names, without those the model does not know."""
    unknown = set(coverage.unknown)
    tensors = {coverage.moved.get(name, name): r for name, r in ranges.tensors.items() if name not in unknown}
    return replace(ranges, tensors=tensors)


def _all_names(proto: onnx.ModelProto) -> set[str]:
    graph = proto.graph
    names = {name for node in graph.node for name in (*node.input, *node.output) if name}
    return names | {value.name for value in graph.input}
