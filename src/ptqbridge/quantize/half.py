"""Half precision written into the model: nodes compute in fp16 or bf16, Cast nodes stand where the types meet.

TensorRT 11 (and 10 with strong typing) takes every node's type from the ONNX file, so this is what ``--fp16`` and
``--bf16`` become there. A node stays fp32 where its values would leave the type's range, where ONNX knows no half
precision form of it, or where it makes its own values; inputs and outputs of the model keep their types.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from ptqbridge.model.check import opset_of
from ptqbridge.model.walk import captured, subgraphs
from ptqbridge.quantize.graph import all_names, in_order, new_name
from ptqbridge.quantize.sources import GraphFacts

if TYPE_CHECKING:
    import numpy.typing as npt

FLOAT = onnx.TensorProto.FLOAT
TYPES = {"fp16": onnx.TensorProto.FLOAT16, "bf16": onnx.TensorProto.BFLOAT16}
LARGEST = {"fp16": 65504.0, "bf16": 3.3895314e38}
"""The largest finite numbers: (2 - 2**-10) * 2**15 and (2 - 2**-7) * 2**127."""
MARGIN = 2.0
"""Activations may be this much larger than calibration has seen them."""
SMALLEST_NORMAL = 2.0**-14
"""Of fp16; a quantization scale below it would lose digits."""
QDQ = frozenset({"QuantizeLinear", "DequantizeLinear"})
OPSETS = {"fp16": 19, "bf16": 22}
"""The first opset in which all that counts has a form in that type: Q and DQ in fp16, Conv and pooling in bf16."""
QDQ_OPSET = OPSETS["fp16"]
KEPT = frozenset(
    {
        *("Cast", "Constant", "ConstantOfShape", "Range", "EyeLike", "NonMaxSuppression", "Multinomial", "Bernoulli"),
        *("RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike"),
        *("Exp", "Log", "Pow", "CumSum", "ReduceSumSquare", "ReduceL2", "ReduceLogSumExp", "ReduceProd"),
    }
)
"""Operators that make values of their own type, and those whose results leave fp16's range or digits soonest."""


@dataclass
class Half:
    """The model with Casts. ``half``: nodes (by name) in half precision; ``kept``: those in fp32, and why."""

    proto: onnx.ModelProto
    kind: str
    half: tuple[str, ...] = ()
    kept: dict[str, str] = field(default_factory=dict)
    casts: int = 0


def to_half(
    proto: onnx.ModelProto,
    kind: str,
    *,
    amax: Mapping[str, float] | None = None,
    keep: Iterable[str] = (),
    only: Iterable[str] | None = None,
) -> Half:
    """A copy of ``proto`` (constants as initializers) that computes in ``kind``, fp16 or bf16.

    ``amax`` maps activations to their largest magnitude, as far as it is known. ``keep`` names nodes that stay fp32,
    ``only``, when given, the nodes that alone change; both by node name.
    """
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    work = _Half(model, kind, amax or {}, frozenset(keep), None if only is None else frozenset(only))
    return work.write()


class _Half:
    def __init__(
        self,
        model: onnx.ModelProto,
        kind: str,
        amax: Mapping[str, float],
        keep: frozenset[str],
        only: frozenset[str] | None,
    ) -> None:
        self.model, self.kind, self.amax, self.keep, self.only = model, kind, amax, keep, only
        self.facts = GraphFacts(model)
        self.opset = opset_of(model)
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.outputs = {value.name for value in model.graph.output}
        self.taken = all_names(model)
        self.result = Half(model, kind)
        self.nodes: list[onnx.NodeProto] = []
        self.twin: dict[str, str] = {}  # tensor -> the name of its half precision form
        self.home: set[str] = set()  # tensors whose maker computes in half precision
        self.casted: set[tuple[str, bool]] = set()

    def write(self) -> Half:
        nodes = in_order(list(self.model.graph.node))
        chosen = [self._choose(node) for node in nodes]
        self._pairs_together(nodes, chosen)
        self.captured = {name for node in nodes for name in captured(node)} | self.outputs
        for node, half in zip(nodes, chosen, strict=True):
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            if half:
                self._to_half(copy)
            else:
                for name in [*node.input, *captured(node)]:
                    self._need(name, half=False)
            self.nodes.append(copy)
            for name in node.output:
                if name in self.home and name in self.captured:
                    self._need(name, half=False)
        self.result.half = tuple(_label(node) for node, half in zip(nodes, chosen, strict=True) if half)
        del self.model.graph.node[:]
        self.model.graph.node.extend(self.nodes)
        used = {name for node in self.nodes for name in [*node.input, *captured(node)]} | self.outputs
        kept = [tensor for tensor in self.model.graph.initializer if tensor.name in used]
        copies = [onnx.TensorProto.FromString(tensor.SerializeToString()) for tensor in kept]
        del self.model.graph.initializer[:]
        self.model.graph.initializer.extend(copies)
        del self.model.graph.value_info[:]
        if self.kind == "fp16" or self.opset >= 13:
            self.model.ir_version = max(self.model.ir_version, 7)
        return self.result

    def _choose(self, node: onnx.NodeProto) -> bool:
        """Whether a node computes in half precision; notes why a float node does not."""
        if not self._floats(node):
            return False
        why = self._why_not(node)
        if why:
            self.result.kept[_label(node)] = why
        return not why

    def _floats(self, node: onnx.NodeProto) -> list[str]:
        return [name for name in (*node.input, *node.output) if name and self._is_float(name)]

    def _is_float(self, name: str) -> bool:
        if name in self.constants:
            return bool(self.constants[name].data_type == FLOAT)
        kind = self.facts.type_of(name)
        return kind is not None and bool(kind.elem_type == FLOAT)

    def _why_not(self, node: onnx.NodeProto) -> str:
        label = _label(node)
        if label in self.keep:
            return "asked for"
        if self.only is not None and label not in self.only:
            return "not asked for"
        if node.domain not in ("", "ai.onnx") or any(True for _ in subgraphs(node)):
            return "it is no plain ONNX operator"
        if node.op_type in KEPT:
            return f"{node.op_type} stays in fp32"
        if node.op_type in QDQ and self.opset < QDQ_OPSET:
            return f"opset {self.opset} has no {node.op_type} in half precision"
        if not self._half_slots(node):
            return f"ONNX has no {self.kind} form of {node.op_type}"
        limit = LARGEST[self.kind]
        for name in dict.fromkeys((*node.input, *node.output)):
            if name in self.constants and self._is_float(name):
                why = self._why_not_weight(name, node)
                if why:
                    return why
            elif self.amax.get(name, 0.0) * MARGIN > limit:
                return f"{name} reaches {self.amax[name]:.3g}"
        return ""

    def _why_not_weight(self, name: str, node: onnx.NodeProto) -> str:
        value = np.abs(onnx.numpy_helper.to_array(self.constants[name]))
        if not np.isfinite(value).all():
            return f"{name} holds values that are not finite"
        largest = float(value.max(initial=0.0))
        # Infinite-like constants (masks, limits of Clip) would become infinite.
        if largest > LARGEST[self.kind]:
            return f"{name} reaches {largest:.3g}"
        if node.op_type in QDQ and self.kind == "fp16" and name == node.input[1]:
            smallest = float(value.min(initial=np.inf))
            if smallest < SMALLEST_NORMAL:
                return f"the scale {name} goes down to {smallest:.3g}"
        return ""

    def _pairs_together(self, nodes: list[onnx.NodeProto], chosen: list[bool]) -> None:
        """Q and DQ of one scale stay in one type, and with them what DQ feeds: a Cast between would undo the fusion."""
        float_scales = {
            node.input[1] for node, half in zip(nodes, chosen, strict=True) if node.op_type in QDQ and not half
        }
        stuck = set()
        for position, node in enumerate(nodes):
            if node.op_type in QDQ and node.input[1] in float_scales:
                if chosen[position]:
                    self.result.kept[_label(node)] = "its partner stays fp32"
                chosen[position] = False
                if node.op_type == "DequantizeLinear":
                    stuck.update(node.output)
        for position, node in enumerate(nodes):
            if chosen[position] and stuck.intersection(node.input):
                chosen[position] = False
                self.result.kept[_label(node)] = "its integer inputs are scaled to fp32"

    def _half_slots(self, node: onnx.NodeProto) -> set[str]:
        """The node's float tensors that the operator takes in half precision; none when its result cannot be."""
        try:
            schema = onnx.defs.get_schema(node.op_type, self.opset, "")
        except Exception:  # onnx.defs.SchemaError, which old releases do not export
            return set()
        word = f"tensor({'float16' if self.kind == 'fp16' else 'bfloat16'})"
        allowed = {
            constraint.type_param_str: word in constraint.allowed_type_strs for constraint in schema.type_constraints
        }

        def takes(parameters: Sequence[Any], place: int) -> bool:
            parameter = parameters[min(place, len(parameters) - 1)]
            # ONNX 1.15 spells it typeStr, later releases type_str.
            text: str = getattr(parameter, "type_str", None) or parameter.typeStr
            return allowed.get(text, text == word)

        floats = [place for place, name in enumerate(node.output) if name and self._is_float(name)]
        if any(not takes(schema.outputs, place) for place in floats):
            return set()
        inputs = [name for place, name in enumerate(node.input) if name and takes(schema.inputs, place)]
        found = {name for name in inputs if self._is_float(name)}
        return found | {node.output[place] for place in floats}

    def _to_half(self, copy: onnx.NodeProto) -> None:
        slots = self._half_slots(copy)
        for place, name in enumerate(copy.input):
            if name in slots:
                copy.input[place] = self._need(name, half=True)
            elif name:
                self._need(name, half=False)
        for place, name in enumerate(copy.output):
            if name in slots:
                self.home.add(name)
                copy.output[place] = self._twin(name)

    def _twin(self, name: str) -> str:
        if name not in self.twin:
            self.twin[name] = new_name(f"{name}_{self.kind}", self.taken)
        return self.twin[name]

    def _need(self, name: str, *, half: bool) -> str:
        """The name under which ``name`` is there in that type; a Cast or another constant is added when it is not."""
        wanted = self._twin(name) if half else name
        if not name or not self._is_float(name) or (name in self.home) == half or (name, half) in self.casted:
            return wanted
        self.casted.add((name, half))
        if name in self.constants:
            value = onnx.numpy_helper.to_array(self.constants[name])
            self.model.graph.initializer.append(half_tensor(value, self.kind, wanted))
            return wanted
        source, target = (name, TYPES[self.kind]) if half else (self._twin(name), FLOAT)
        label = new_name(f"{name}_to_{self.kind if half else 'fp32'}", self.taken)
        self.nodes.append(onnx.helper.make_node("Cast", [source], [wanted], label, to=target))
        self.result.casts += 1
        return wanted


def half_tensor(value: npt.NDArray[np.float32], kind: str, name: str) -> onnx.TensorProto:
    """A constant in fp16 or bf16, rounded to nearest even."""
    if kind == "fp16":
        return onnx.numpy_helper.from_array(np.asarray(value, np.float32).astype(np.float16), name)
    bits = np.ascontiguousarray(value, np.float32).view(np.uint32).astype(np.uint64)
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    return onnx.TensorProto(
        name=name, data_type=TYPES["bf16"], dims=np.asarray(value).shape, raw_data=rounded.tobytes()
    )


def _label(node: onnx.NodeProto) -> str:
    return str(node.name or node.output[0])
