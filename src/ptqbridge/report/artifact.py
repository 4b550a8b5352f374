"""What a file says of itself: ONNX models and artifacts of every target, as far as it can be told on this machine."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from ptqbridge.errors import InputError, OptionError, ToolchainMissing
from ptqbridge.report.record import file_sha256

KINDS = {
    ".onnx": "ONNX model",
    ".bin": "Journey 5, X5 or X3 model (hb_mapper)",
    ".hbm": "Journey 6 model (hb_compile)",
    ".engine": "TensorRT engine",
    ".plan": "TensorRT engine",
    ".trt": "TensorRT engine",
}
_CLOSED = "what is inside is told by hrt_model_exec model_info on the board, or by hb_compile's own tools"
OURS = "ptqbridge."


def describe(path: str, toolchain: str = "local", board: str = "") -> dict[str, Any]:
    """Everything known of the file ``path``, JSON-ready; with ``board`` also what is told there of a .bin or .hbm.

    Raises InputError for a file that is not there, of no known kind or not what its name says, ToolchainMissing when a
    .bin has no record of its build and hb_model_info is not there either, ToolchainFailed when that finds the .bin
    unreadable.
    """
    if not os.path.isfile(path):
        raise InputError(f"{path}: {'a folder, expected a file' if os.path.isdir(path) else 'no such file'}")
    suffix = os.path.splitext(path)[1].lower()
    if suffix not in KINDS:
        raise InputError(f"{path}: expected a file that ends in {', '.join(KINDS)}")
    if board and suffix not in (".bin", ".hbm"):
        raise OptionError(f"--board: boards know .bin and .hbm files, found {path}")
    if not os.path.getsize(path):
        raise InputError(f"{path}: expected a {KINDS[suffix]}, found an empty file")
    head = {"file": path, "kind": KINDS[suffix], "bytes": os.path.getsize(path), "sha256": file_sha256(path)}
    if suffix == ".onnx":
        return head | _onnx(path)
    built = _build(path, str(head["sha256"]))
    if board:
        return head | built | _on_board(path, board)
    if suffix == ".bin":
        return head | built | _bin(path, toolchain, bool(built.get("build")))
    return head | built | ({"notes": [_CLOSED]} if suffix == ".hbm" else _engine(path))


def _engine(path: str) -> dict[str, Any]:
    """The TensorRT that made an engine, from the head of the file, and what the engine tells where it can be loaded.

    The head alone decides whether it is loaded: a file of another form is not given to TensorRT. Raises InputError for
    what is no engine.
    """
    from ptqbridge.backends.tensorrt.engine_info import info
    from ptqbridge.backends.tensorrt.planfile import OtherForm, plan_version

    try:
        made_by = {"tensorrt": plan_version(path, "")}
    except OtherForm as error:
        return {"notes": [error.message]}
    return made_by | info(path)


def _onnx(path: str) -> dict[str, Any]:
    """Opset, inputs, outputs and metadata; weights in other files are not read, and operators not judged."""
    import onnx

    from ptqbridge.model.interface import read_interface

    try:
        proto = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf raises classes without a common base
        raise InputError(f"{path}: is no ONNX model ({' '.join(str(error).split())[:80]})") from error
    if not proto.graph.node and not proto.graph.output:
        raise InputError(f"{path}: is no ONNX model (it has neither nodes nor outputs)")
    inputs, outputs = read_interface(proto, Path(path))
    metadata = {entry.key: entry.value for entry in proto.metadata_props}
    ours = {key.removeprefix(OURS): value for key, value in metadata.items() if key.startswith(OURS)}
    record: dict[str, Any] = {
        "opsets": {entry.domain or "ai.onnx": entry.version for entry in proto.opset_import},
        "ir_version": proto.ir_version,
        "producer": " ".join(filter(None, (proto.producer_name, proto.producer_version))),
        "nodes": len(proto.graph.node),
        "inputs": [spec.text() for spec in inputs],
        "outputs": [spec.text() for spec in outputs],
        "precision": ours.get("precision", ""),
        "performance_only": ours.get("performance_only") or None,
        "ptqbridge": ours,
        "metadata": {key: value for key, value in metadata.items() if not key.startswith(OURS)},
    }
    return record


def _build(path: str, sha256: str) -> dict[str, Any]:
    """The record that a build left beside the file, if it is this file's."""
    try:
        record = json.loads(Path(f"{path}.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    if not isinstance(record, dict) or record.get("artifact_sha256") != sha256:
        return {}
    return {"build": record.get("build"), "versions": record.get("versions")}


def _on_board(path: str, board: str) -> dict[str, Any]:
    from ptqbridge.backends.horizon.board import Board
    from ptqbridge.backends.horizon.boardinfer import read_info

    place = Board(board)
    info, tool = read_info(path, place, say=lambda text: None)
    return {"board": place.name, "tool": tool, "model": info.to_dict(), "shown": info.summary()}


def _bin(path: str, toolchain: str, recorded: bool) -> dict[str, Any]:
    from ptqbridge.backends.horizon.tools5 import MODEL, model_info
    from ptqbridge.backends.horizon.workspace import workspace
    from ptqbridge.toolchains.select import select

    try:
        with workspace() as place, select(toolchain) as where:
            place.copy(path, MODEL)
            return {"model": model_info(place, where).to_dict()}
    except ToolchainMissing as error:
        if not recorded:
            raise
        return {"notes": [f"only the record of its build is shown: {error.message}"]}


def text(record: dict[str, Any]) -> str:
    """The same for people: one line per fact, lists and mappings indented; the build's long tables stay in the JSON."""
    shown = {key: value for key, value in record.items() if key not in ("build", "shown")}
    if "shown" in record:  # the whole of a board's answer is for JSON
        shown["model"] = record["shown"]
    build = record.get("build") or {}
    if build:
        facts = build.get("facts", {})
        estimate = facts.get("estimate", {})
        parts = estimate.get("subgraphs", ()) if isinstance(estimate, dict) else ()
        shown["built"] = {
            "target": build.get("target"),
            "precision": build.get("precision"),
            "performance only": build.get("performance_only"),
            "calibration": (facts.get("calibration") or {}).get("method"),
            "estimate": "; ".join(f"{p['subgraph']}: {p['fps']:g} FPS, {p['latency_us'] / 1000:g} ms" for p in parts),
            "cosine": ", ".join(f"{o['name']} {o['cosine']}" for o in facts.get("outputs", ()) if isinstance(o, dict)),
        }
    return "".join(f"{line}\n" for line in _lines(shown, ""))


def _lines(value: Any, indent: str) -> list[str]:
    if isinstance(value, dict):
        lines = []
        for key, entry in value.items():
            if entry in (None, "", {}, [], ()):
                continue
            if isinstance(entry, list) and all(isinstance(part, int) for part in entry):
                entry = "x".join(map(str, entry))
            nested = isinstance(entry, (dict, list))
            lines += [f"{indent}{key}:", *_lines(entry, f"{indent}  ")] if nested else [f"{indent}{key}: {entry}"]
        return lines
    if isinstance(value, list):
        lines = []
        for entry in value:
            inner = _lines(entry, f"{indent}  ") if isinstance(entry, dict) else [f"{indent}- {entry}"]
            if isinstance(entry, dict) and inner:
                inner[0] = f"{indent}- {inner[0].lstrip()}"
            lines += inner
        return lines
    return [f"{indent}{value}"]
