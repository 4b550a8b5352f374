"""Where NaN must be looked for, so that none in an observed tensor stays unseen.

ONNX Runtime's maxima and minima pass over NaN (all but the first value of a block); sums do not, but a sum of every
tensor would cost as much as its extremes. Most operators hand NaN on, so sums of the model's outputs tell nearly all.
"""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from ptqbridge.quantize.graph import attribute
from ptqbridge.quantize.sources import FLOATS, MOVES, GraphFacts

_HANDS_ON = MOVES | {
    "Add", "Sub", "Mul", "Div", "Neg", "Sum", "Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "Tanh", "HardSwish",
    "Softmax", "BatchNormalization", "InstanceNormalization", "LayerNormalization", "GlobalAveragePool", "ReduceMean",
    "ReduceSum", "Concat", "Gemm", "MatMul",
}  # fmt: skip
"""Operators of whose first output some element is NaN when one of an input is, tried with ONNX Runtime 1.16 and 1.32.

Not among them: MaxPool and the like, Erf (not in 1.16), whatever leaves elements out."""


_EXPLICIT = (b"", b"NOTSET")


def places(facts: GraphFacts, observed: Iterable[str]) -> list[str]:
    """Tensors of whose sums at least one is NaN when one of the ``observed`` holds NaN: the outputs, and what it takes.

    All of them are computed by the graph. What is ``observed`` is of a float type.
    """
    found = [name for name in facts.outputs if name in facts.producers and _is_float(facts, name)]
    asked, told = set(observed), set(found)
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in facts.producers.values():
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for name in reversed(facts.producers):
        if name in told:
            continue
        if any(node.output[0] in told and _hands_on(facts, node) for node in readers.get(name, ())):
            told.add(name)
        elif name in asked:
            told.add(name)
            found.append(name)
    return found


def _is_float(facts: GraphFacts, name: str) -> bool:
    kind = facts.type_of(name)
    return kind is not None and kind.elem_type in FLOATS


def _hands_on(facts: GraphFacts, node: onnx.NodeProto) -> bool:
    if node.domain not in ("", "ai.onnx"):
        return False
    return node.op_type in _HANDS_ON or (node.op_type == "Conv" and _reads_everything(facts, node))


def _reads_everything(facts: GraphFacts, conv: onnx.NodeProto) -> bool:
    """Whether the windows of ``conv`` leave no element of its input out, as one of 1x1 with a stride of 2 does."""
    strides = attribute(conv, "strides", [])
    if all(stride == 1 for stride in strides):
        return True
    kind, weight = facts.type_of(conv.input[0]), facts.type_of(conv.input[1])
    if kind is None or kind.shape is None or weight is None or weight.shape is None:
        return False
    axes = len(strides)
    pads = attribute(conv, "pads", [0] * 2 * axes)
    if any(size != 1 for size in attribute(conv, "dilations", [])) or attribute(conv, "auto_pad", b"") not in _EXPLICIT:
        return False
    for axis, (size, kernel, stride) in enumerate(zip(kind.shape[2:], weight.shape[2:], strides, strict=True)):
        if size is None or kernel is None or stride > kernel:
            return False
        if (size + pads[axis] + pads[axis + axes] - kernel) % stride > pads[axis + axes]:
            return False  # what is left over at the end
    return True
