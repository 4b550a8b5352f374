"""What a graph says about its tensors without being run: equal values, proven signs, types and ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper, shape_inference

MOVES = frozenset(
    {"Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Identity", "DepthToSpace", "SpaceToDepth"}
)
"""Operators whose first output holds exactly the elements of their first input, each once, in another order."""

KEEPS_RANGE = MOVES | {"MaxPool"}
"""With these, hb_mapper gives the output the threshold of the input."""

FLOATS = {
    TensorProto.FLOAT: "float32",
    TensorProto.DOUBLE: "float64",
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
}
"""Element types that can be observed, and NumPy's names of them."""

_SMALL = 1024
"""Constants up to this many elements can carry shapes; larger ones are weights, which type inference does not need."""

_NEVER_NEGATIVE = frozenset(
    {
        "Relu",
        "Sigmoid",
        "Softmax",
        "HardSigmoid",
        "Exp",
        "Abs",
        "Sqrt",
        "Softplus",
        "ReduceL1",
        "ReduceL2",
        "ReduceSumSquare",
    }
)
_KEEPS_SIGN = MOVES | {
    "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "ReduceMax", "ReduceMin", "ReduceMean", "ReduceSum",
    "Gather", "Slice", "Split", "Expand", "Tile", "Dropout", "Cast", "Ceil", "Floor", "Round",
}  # fmt: skip
_KEEPS_SIGN_OF_ALL = frozenset({"Concat", "Add", "Mul", "Max", "Min", "Sum", "Mean", "Div"})


@dataclass(frozen=True)
class TensorType:
    """Element type (a ``TensorProto`` enum value) and rank (``None`` when unknown) of one tensor."""

    elem_type: int
    shape: tuple[int | None, ...] | None

    @property
    def rank(self) -> int | None:
        """Number of axes, or ``None``."""
        return None if self.shape is None else len(self.shape)

    @property
    def is_empty(self) -> bool:
        """Whether some axis is known to have length 0."""
        return self.shape is not None and 0 in self.shape


class GraphFacts:
    """Answers about the tensors of the main graph of ``proto`` (which is read, never changed)."""

    def __init__(
        self,
        proto: onnx.ModelProto,
        shapes: Mapping[str, Sequence[int]] | None = None,
        moves: frozenset[str] = MOVES,
    ) -> None:
        """``shapes`` of graph inputs, where the caller knows more than the model says. ``moves``: see ``source``."""
        graph = proto.graph
        self.initializers: Mapping[str, TensorProto] = {tensor.name: tensor for tensor in graph.initializer}
        self.inputs = tuple(value.name for value in graph.input if value.name not in self.initializers)
        self.outputs = tuple(value.name for value in graph.output)
        self.producers = {name: node for node in graph.node for name in node.output if name}
        self._proto = proto
        self._shapes = shapes or {}
        self._moves = moves
        self._types: dict[str, TensorType] | None = None
        self._signs: dict[str, bool] = {}

    def __contains__(self, name: str) -> bool:
        return name in self.producers or name in self.initializers or name in self.inputs

    def source(self, name: str) -> str:
        """The tensor that stands for ``name``: before all operators of ``moves``, by default pure data movement."""
        while (node := self.producers.get(name)) is not None and _is_move(node, name, self._moves):
            name = node.input[0]
        return name

    def constant(self, name: str) -> np.ndarray | None:
        """The value of an initializer or ``Constant`` node, or ``None`` when ``name`` is neither."""
        if name in self.initializers:
            return numpy_helper.to_array(self.initializers[name])
        node = self.producers.get(name)
        if node is None or node.op_type != "Constant":
            return None
        attribute = node.attribute[0]
        value = onnx.helper.get_attribute_value(attribute)
        return numpy_helper.to_array(value) if attribute.name == "value" else np.asarray(value)

    def never_negative(self, name: str) -> bool:
        """Whether the graph alone proves every element of ``name`` to be at least zero."""
        pending = [name]
        while pending:  # not recursive: real graphs are deeper than Python's stack
            current = pending[-1]
            if current in self._signs:
                pending.pop()
                continue
            needs, decide = self._sign_rule(current)
            missing = [need for need in needs if need not in self._signs]
            if missing:
                pending.extend(missing)
            else:
                self._signs[current] = decide()
                pending.pop()
        return self._signs[name]

    def _sign_rule(self, name: str) -> tuple[list[str], Callable[[], bool]]:
        """The tensors whose signs decide that of ``name``, and the decision."""
        node = self.producers.get(name)
        if node is None or node.op_type == "Constant":
            return [], lambda: self._constant_never_negative(name)
        if node.domain not in ("", "ai.onnx"):
            return [], lambda: False
        if node.op_type in _NEVER_NEGATIVE:
            return [], lambda: True
        if node.op_type == "Clip":
            return [], lambda: self._clip_floor(node) >= 0
        if node.op_type == "Resize" and _text_attribute(node, "mode", "nearest") == "cubic":
            return [], lambda: False  # cubic weights are partly negative
        if node.op_type in _KEEPS_SIGN or node.op_type in ("Resize", "Upsample"):
            return [node.input[0]], lambda: self._signs[node.input[0]]
        if node.op_type in _KEEPS_SIGN_OF_ALL:
            needs = list(node.input)
            return needs, lambda: all(self._signs[need] for need in needs)
        return [], lambda: False

    def _constant_never_negative(self, name: str) -> bool:
        tensor = self.initializers.get(name)
        if tensor is not None and int(np.prod(tensor.dims)) > _SMALL:
            return False  # a weight; not worth a look
        value = self.constant(name)
        return value is not None and value.dtype.kind in "fiub" and bool(np.all(value >= 0))

    def clip_bounds(self, node: onnx.NodeProto) -> tuple[float | None, float | None]:
        """Lower and upper bound of a Clip, None where it has none or it is not constant."""
        return self._clip_bound(node, "min", 1), self._clip_bound(node, "max", 2)

    def _clip_floor(self, node: onnx.NodeProto) -> float:
        floor = self._clip_bound(node, "min", 1)
        return float("-inf") if floor is None else floor

    def _clip_bound(self, node: onnx.NodeProto, attribute_name: str, position: int) -> float | None:
        for attribute in node.attribute:
            if attribute.name == attribute_name:  # opset 6
                return float(attribute.f)
        if len(node.input) > position and node.input[position]:
            value = self.constant(node.input[position])
            if value is not None and value.size == 1:
                return float(value.reshape(()))
        return None

    def type_of(self, name: str) -> TensorType | None:
        """Type and rank of ``name`` by ONNX shape inference, or ``None`` when inference cannot tell."""
        if self._types is None:
            self._types = _infer(self._proto, self.initializers, self._shapes)
        return self._types.get(name)

    def bytes_of(self, name: str) -> int | None:
        """The bytes one instance of ``name`` takes, or ``None`` when a dimension or the type is unknown."""
        kind = self.type_of(name)
        if kind is None or kind.shape is None or not kind.elem_type:
            return None
        count = 1
        for dim in kind.shape:
            if dim is None:
                return None
            count *= dim
        return count * onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type).itemsize


def _is_move(node: onnx.NodeProto, name: str, moves: frozenset[str]) -> bool:
    return node.domain in ("", "ai.onnx") and node.op_type in moves and bool(node.input) and name == node.output[0]


def _text_attribute(node: onnx.NodeProto, name: str, default: str) -> str:
    return next((attribute.s.decode() for attribute in node.attribute if attribute.name == name), default)


def _infer(
    proto: onnx.ModelProto, initializers: Mapping[str, TensorProto], shapes: Mapping[str, Sequence[int]]
) -> dict[str, TensorType]:
    """Shape inference over a copy of the graph whose large initializers became inputs: weights are never copied."""
    skeleton = onnx.ModelProto(ir_version=proto.ir_version)
    skeleton.opset_import.extend(proto.opset_import)
    skeleton.functions.extend(proto.functions)
    graph = skeleton.graph
    graph.name = proto.graph.name
    graph.node.extend(proto.graph.node)
    if shapes:  # what the model declares was inferred without them
        graph.output.extend(onnx.ValueInfoProto(name=value.name) for value in proto.graph.output)
    else:
        graph.output.extend(proto.graph.output)
        graph.value_info.extend(proto.graph.value_info)
    known = set()
    for value in proto.graph.input:
        given = graph.input.add()
        given.CopyFrom(value)
        if value.name in shapes:
            elem_type = value.type.tensor_type.elem_type
            given.CopyFrom(onnx.helper.make_tensor_value_info(value.name, elem_type, list(shapes[value.name])))
        known.add(value.name)
    for name, tensor in initializers.items():
        if int(np.prod(tensor.dims)) <= _SMALL and tensor.data_location != TensorProto.EXTERNAL:
            graph.initializer.add().CopyFrom(tensor)
        if name not in known:
            graph.input.add().CopyFrom(onnx.helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims)))
    try:
        inferred = shape_inference.infer_shapes(skeleton).graph
    except (shape_inference.InferenceError, RuntimeError, ValueError):
        inferred = graph  # what the model declares is then all that is known
    types = {}
    for value in (*inferred.input, *inferred.value_info, *inferred.output):
        if value.type.HasField("tensor_type"):
            types[value.name] = _tensor_type(value.type.tensor_type)
    return types


def _tensor_type(declared: onnx.TypeProto.Tensor) -> TensorType:
    if not declared.HasField("shape"):
        return TensorType(declared.elem_type, None)
    dims = tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in declared.shape.dim)
    return TensorType(declared.elem_type, dims)
