"""Structural checks of an ONNX model, cheap enough for every load: versions, operators, names. Weights are not read."""

from __future__ import annotations

import re
from collections.abc import Collection
from functools import lru_cache
from pathlib import Path

import onnx

from ptqbridge.errors import InputError
from ptqbridge.model.walk import all_nodes, captured

OLDEST_OPSET = 7
"""ONNX Runtime guarantees nothing below (its documentation: compatibility from ONNX 1.2, opset 7)."""

# Every ONNX Runtime we support (1.16 and later) reads these, so that nothing has to be asked.
_SURE_OPSET, _SURE_IR = 19, 9
_STANDARD = {"", "ai.onnx"}


def opset_of(proto: onnx.ModelProto, domain: str = "") -> int:
    """The imported opset of ``domain``; 0 when the model does not import it."""
    names = _STANDARD if domain in _STANDARD else {domain}
    return max((entry.version for entry in proto.opset_import if entry.domain in names), default=0)


def check_versions(proto: onnx.ModelProto, path: Path) -> None:
    """Raise InputError when the file's IR version or opset is not known to the installed onnx and ONNX Runtime."""
    opset = opset_of(proto)
    known = onnx.defs.onnx_opset_version()
    if opset > known:
        raise InputError(
            f"model {path} has opset {opset}; the installed onnx {onnx.__version__} knows up to {known}",
            hint="export with a lower opset, or upgrade onnx and onnxruntime",
        )
    if 0 < opset < OLDEST_OPSET:
        raise InputError(f"model {path} has opset {opset}; the oldest that is supported is {OLDEST_OPSET}")
    if proto.ir_version <= _SURE_IR and opset <= _SURE_OPSET:
        return
    import onnxruntime  # only now: most models do not need it asked

    top_ir, top_opset = runtime_limits(proto.ir_version, opset)
    for what, found, top in (("IR version", proto.ir_version, top_ir), ("opset", opset, top_opset)):
        if found > top:
            raise InputError(
                f"model {path} has {what} {found}; the installed onnxruntime {onnxruntime.__version__} "
                f"knows up to {top}",
                hint="export for an older version, or upgrade onnxruntime",
            )


@lru_cache(maxsize=8)
def runtime_limits(ir_version: int, opset: int) -> tuple[int, int]:
    """The highest IR version and opset that the installed ONNX Runtime takes, as far as these two go beyond them.

    It has no call that tells, so a one-node model is tried; its refusal names the limit.
    """
    import onnxruntime

    def attempt(ir: int, version: int) -> str:
        value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1]) for name in "xy"]
        graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", value[:1], value[1:])
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", version)])
        model.ir_version = ir
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        try:
            onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            return str(error)
        return ""

    ir_refusal = re.search(r"max supported IR version: (\d+)", attempt(ir_version, _SURE_OPSET))
    opset_refusal = re.search(r"is till opset (\d+)", attempt(_SURE_IR, opset)) if opset > _SURE_OPSET else None
    return (
        int(ir_refusal[1]) if ir_refusal else ir_version,
        int(opset_refusal[1]) if opset_refusal else opset,
    )


def check_graph(proto: onnx.ModelProto, path: Path, custom: Collection[str] = ()) -> None:
    """Raise InputError for unknown operators, duplicate or dangling names, and a graph without outputs.

    Operators of the domains ``custom`` are another tool's business.
    """
    graph = proto.graph
    if not graph.output:
        raise InputError(f"model {path} has no graph outputs")
    _check_names(graph, path)
    _check_operators(proto, path, custom)


def _check_names(graph: onnx.GraphProto, path: Path) -> None:
    inputs = [value.name for value in graph.input]
    constants = [tensor.name for tensor in graph.initializer]
    constants += [sparse.values.name for sparse in graph.sparse_initializer]
    outputs = [value.name for value in graph.output]
    for what, names in (("input", inputs), ("initializer", constants), ("output", outputs)):
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise InputError(f"model {path} has two {what}s named {twice!r}")
    makers = {name: "the graph's inputs" for name in (*inputs, *constants)}
    for node in graph.node:
        for name in filter(None, node.output):
            if name in makers:
                both = f"{makers[name]} and by {node_text(node)}"
                raise InputError(f"model {path}: tensor {name!r} is made twice, by {both}")
            makers[name] = node_text(node)
    for node in graph.node:
        for name in {*node.input, *captured(node)} - {""}:
            if name not in makers:
                raise InputError(f"model {path}: {node_text(node)} reads tensor {name!r}, which nothing makes")
    for name in outputs:
        if name not in makers:
            raise InputError(f"model {path}: graph output {name!r} is made by no node")


def _check_operators(proto: onnx.ModelProto, path: Path, custom: Collection[str]) -> None:
    local = {(function.domain, function.name) for function in proto.functions}
    seen: set[tuple[str, str]] = set()
    for node in all_nodes(proto):
        key = (node.domain, node.op_type)
        if key in seen or key in local or node.domain in custom:
            continue
        seen.add(key)
        domain = "" if node.domain in _STANDARD else node.domain
        opset = opset_of(proto, domain)
        operator = f"{node.domain or 'ai.onnx'}:{node.op_type}"
        if domain == "" and opset == 0:
            raise InputError(f"model {path}: {node_text(node)} uses {operator}, but the model imports no ai.onnx opset")
        schema = _schema(node.op_type, opset, domain)
        if schema is not None and schema.deprecated:
            raise InputError(f"model {path}: {node_text(node)} uses {operator}, which opset {opset} no longer has")
        if schema is not None or (domain, node.op_type) in _runtime_operators():
            continue
        raise InputError(
            f"model {path}: {node_text(node)} uses operator {operator}, which neither opset {opset} of the installed "
            "onnx nor onnxruntime knows; custom operators need the library that implements them"
        )


def node_text(node: onnx.NodeProto) -> str:
    """How messages name a node: its name, or its operator and first output when it has none."""
    if node.name:
        return f"node {node.name!r}"
    return f"node {node.op_type} -> {node.output[0] if node.output else ''!r}"


def _schema(op_type: str, opset: int, domain: str) -> onnx.defs.OpSchema | None:
    try:
        return onnx.defs.get_schema(op_type, max(opset, 1), domain)
    except onnx.defs.SchemaError:
        return None


@lru_cache(maxsize=1)
def _runtime_operators() -> frozenset[tuple[str, str]]:
    """(domain, operator) of all that ONNX Runtime has beyond the standard (com.microsoft and its like)."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    return frozenset((schema.domain, schema.name) for schema in state.get_all_operator_schema() if schema.domain)
