"""Brings a float model into the form that calibration and Q/DQ insertion expect, without changing what it computes.

The opset is raised to 13, constants become initializers, nodes that only depend on constants are computed,
BatchNormalization and its like go into the Conv before them, every node gets a name of its own. Both calibration and
quantization work on the result, so that the names of observed tensors match.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

from ptqbridge.errors import InputError
from ptqbridge.model.save import MAPPED_FROM, payload_bytes, session_model
from ptqbridge.model.walk import all_graphs
from ptqbridge.quantize.fold import fold_constants, fold_into_conv, inline_constants
from ptqbridge.quantize.graph import in_order, new_name
from ptqbridge.quantize.memory import forget_bytes, give_back
from ptqbridge.quantize.opset import TARGET, CannotRaise, raise_opset

if TYPE_CHECKING:
    import numpy.typing as npt

QDQ = frozenset({"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear"})

_LARGE = 2**25
"""Models with more bytes of weights are run by themselves: else there would be several copies at a time."""


@dataclass(frozen=True)
class Prepared:
    """The prepared model and, in words, what was done to it."""

    proto: onnx.ModelProto
    notes: tuple[str, ...]


def prepare(proto: onnx.ModelProto, sample: Mapping[str, npt.NDArray[Any]] | None = None) -> Prepared:
    """A prepared copy of ``proto``; the original is not changed.

    With ``sample`` (input name -> array) both models are run on it; a step after which the outputs differ by more
    than 1 % of their largest value is left out, and the notes say so.

    Raises InputError for a model that is quantized already, and for one that ONNX Runtime cannot run on ``sample``.
    """
    refuse_quantized(proto)
    if sample is None:
        prepared = _prepared(proto, None)
    else:
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(_run, proto, sample)
            if payload_bytes(proto) > _LARGE:
                wait([running])  # else the float model runs while the steps are taken
            prepared = _prepared(proto, lambda model: _same(model, sample, running))
    give_back()
    return prepared


def _prepared(proto: onnx.ModelProto, same: Callable[[onnx.ModelProto], bool] | None) -> Prepared:
    always = (_sort, _unlist_initializers, _name_nodes, inline_constants)
    attempts = (
        ((raise_opset, fold_constants, fold_into_conv), ""),
        ((raise_opset, fold_constants), "nothing folded into Conv: the outputs would have changed"),
        ((fold_constants, fold_into_conv), "opset not raised: the outputs would have changed"),
        ((), "nothing folded, opset not raised: the outputs would have changed"),
    )
    for steps, warning in attempts:  # noqa: B007 - used after the loop
        model = onnx.ModelProto()
        model.CopyFrom(proto)
        notes = [_step(step, model) for step in (*always, *steps)]
        model = _without_remains(model)
        give_back()
        if same is None or same(model) or not steps:
            break
    return Prepared(model, tuple(note for note in (*notes, warning) if note))


def _without_remains(model: onnx.ModelProto) -> onnx.ModelProto:
    """A copy: Protocol Buffers keeps the memory of what was taken out, such as weights folded into others."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    return copy


def _step(step: Callable[[onnx.ModelProto], str], model: onnx.ModelProto) -> str:
    try:
        return step(model)
    except CannotRaise as reason:
        return f"opset not raised to {TARGET}, since {reason}: one scale per weight instead of one per channel"


def _run(model: onnx.ModelProto, sample: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1  # for one run; a pool would spin longer than it helps
    # Nor does rewriting the graph and the weights pay for one run, and it takes several times the memory.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.add_session_config_entry("session.disable_prepacking", "1")
    options.enable_cpu_mem_arena = False
    with session_model(model, mapped_from=MAPPED_FROM) as source:
        session = onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        del source
    forget_bytes(session)
    values: list[npt.NDArray[Any]] = session.run(None, dict(sample))
    return values


def _same(
    model: onnx.ModelProto, sample: Mapping[str, npt.NDArray[Any]], running: Future[list[npt.NDArray[Any]]]
) -> bool:
    found = None
    with suppress(Exception):  # a step that makes the model unusable is a step to take back
        found = _run(model, sample)
    try:
        expected = running.result()
    except Exception as error:
        reason = str(error).splitlines()[0]
        numbers = [name for name, array in sample.items() if array.dtype.kind in "iu"]
        hint = "without --calibData integer inputs hold noise of -128 to 127, which may be no valid index"
        raise InputError(
            f"ONNX Runtime cannot run the float model on the first sample: {reason}",
            hint=f"{', '.join(numbers)}: {hint}" if numbers else "",
        ) from error
    return found is not None and _close(expected, found)


def _close(expected: list[npt.NDArray[Any]], found: list[npt.NDArray[Any]]) -> bool:
    for one, other in zip(expected, found, strict=True):
        if one.shape != other.shape or one.dtype != other.dtype:
            return False
        if not np.issubdtype(one.dtype, np.floating):
            continue
        largest = float(np.abs(one).max(initial=0.0, where=np.isfinite(one)))
        if not np.allclose(one, other, rtol=0.0, atol=0.01 * largest + 1e-6, equal_nan=True):
            return False
    return True


def refuse_quantized(proto: onnx.ModelProto) -> None:
    """Raise InputError when the model holds Q/DQ or other quantization operators."""
    for graph in all_graphs(proto.graph):
        for node in graph.node:
            if node.op_type in QDQ or node.op_type.startswith(("QLinear", "QGemm")) or node.op_type.endswith("Integer"):
                raise InputError(
                    f"the model is quantized already: node {node.name or node.output[0]!r} is {node.op_type}; "
                    "give the float model"
                )


def _sort(model: onnx.ModelProto) -> str:
    nodes = list(model.graph.node)
    ordered = in_order(nodes)
    if all(one is other for one, other in zip(nodes, ordered, strict=True)):
        return ""
    copies = []
    for node in ordered:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copies.append(copy)
    del model.graph.node[:]
    model.graph.node.extend(copies)
    return "nodes put in topological order"


def _unlist_initializers(model: onnx.ModelProto) -> str:
    """Files of IR version 3 list weights as inputs too, which would let a caller replace them."""
    constants = {tensor.name for tensor in model.graph.initializer}
    kept = [value for value in model.graph.input if value.name not in constants]
    count = len(model.graph.input) - len(kept)
    if count:
        copies = [onnx.ValueInfoProto.FromString(value.SerializeToString()) for value in kept]
        del model.graph.input[:]
        model.graph.input.extend(copies)
    model.ir_version = max(model.ir_version, 7)
    return f"{count} weights are no longer listed as inputs" if count else ""


def _name_nodes(model: onnx.ModelProto) -> str:
    """Layer options and reports name nodes: each gets one name of its own, OPERATOR_FIRST-OUTPUT when it has none."""
    counts = Counter(node.name for node in model.graph.node)
    taken = {node.name for node in model.graph.node if node.name}
    seen: set[str] = set()
    unnamed = renamed = 0
    for node in model.graph.node:
        if not node.name:
            node.name = new_name(f"{node.op_type}_{node.output[0]}", taken)
            unnamed += 1
        elif counts[node.name] > 1 and node.name in seen:
            node.name = new_name(node.name, taken)
            renamed += 1
        seen.add(node.name)
    parts = []
    if unnamed:
        parts.append(f"{unnamed} nodes without a name got one")
    if renamed:
        parts.append(f"{renamed} nodes with a name used before got another")
    return "; ".join(parts)
