"""Whether hb_compile's success is worth something: silent skips, made-up ranges, requests it did not follow."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ptqbridge.backends.horizon.judge import LOW_COSINE
from ptqbridge.backends.horizon.logs6 import Node, Record
from ptqbridge.errors import ToolchainFailed
from ptqbridge.result import AskedGot


def judge(record: Record, *, calibrated: bool, log: str) -> tuple[list[str], str]:
    """Remarks, and why the artifact is for timing only ("" when it is not).

    Raises ToolchainFailed when samples were given and the ranges do not come from them.
    """
    known = [node.threshold for node in record.nodes if node.threshold is not None]
    made_up = "every threshold is 1.0: the ranges are made up, not calibrated"
    hint = f"log: {log}"
    if calibrated and record.skipped and not record.samples:
        raise ToolchainFailed("hb_compile succeeded, but it skipped calibration without saying so aloud", hint=hint)
    if calibrated and known and all(value == 1.0 for value in known):
        raise ToolchainFailed(f"hb_compile succeeded, but {made_up}", hint=hint)
    if calibrated and any(math.isnan(value) for value in known):
        raise ToolchainFailed("hb_compile succeeded, but a threshold is no number: the samples hold NaN", hint=hint)
    remarks = []
    low = [node for node in record.nodes if node.quantized_cosine is not None and node.quantized_cosine < LOW_COSINE]
    if low:
        worst = min(low, key=lambda node: node.quantized_cosine or 0.0)
        remarks.append(f"{len(low)} nodes have a cosine below {LOW_COSINE}; lowest: {worst.name}")
    on_cpu = [node.name for node in record.nodes if node.on == "CPU"]
    if on_cpu:
        shown = ", ".join(on_cpu[:3]) + (", ..." if len(on_cpu) > 3 else "")
        remarks.append(f"{len(on_cpu)} of {len(record.nodes)} nodes run on the chip's CPU: {shown}")
    return remarks, made_up if known and all(value == 1.0 for value in known) else ""


def asked_got(config: Mapping[str, Any], nodes: Iterable[Node]) -> tuple[AskedGot, ...]:
    """Requests of node_info and of quant_config's nodes and operator types against the node table of the log.

    A later place wins, as in the quantiser; node_info wins over all. The table shows a node's place and output type: a
    request for the input side is compared with that type. A node that was fused away counts where it was named.
    """
    table = {node.name: node for node in nodes}
    model, quant = config.get("model_parameters") or {}, _quant(config)
    wishes: dict[str, dict[str, str]] = {}
    for node in table.values():
        wanted = (quant.get("op_config") or {}).get(node.kind)
        if isinstance(wanted, Mapping) and node.on != "NULL":
            wishes[node.name] = dict(wanted)
    for source in (quant.get("node_config"), _node_info(model.get("node_info"))):
        for name, wanted in source.items() if isinstance(source, Mapping) else ():
            wishes.setdefault(str(name), {}).update(wanted)
    order = [*(name for name in table if name in wishes), *(name for name in wishes if name not in table)]
    return tuple(row for name in order for row in _rows(name, wishes[name], table.get(name)))


def model_remarks(config: Mapping[str, Any], nodes: Iterable[Node]) -> list[str]:
    """What became of a type that was asked for the whole model: the nodes on the BPU that have another one."""
    asked = (_quant(config).get("model_config") or {}).get("all_node_type", "int8")
    placed = [node for node in nodes if node.on == "BPU"]
    others = [node.name for node in placed if node.dtype != asked]
    if asked == "int8" or not others:
        return []
    shown = ", ".join(others[:3]) + (", ..." if len(others) > 3 else "")
    return [f"{asked} was asked for the whole model; {len(others)} of {len(placed)} nodes on the BPU differ: {shown}"]


def _quant(config: Mapping[str, Any]) -> Mapping[str, Any]:
    quant = (config.get("calibration_parameters") or {}).get("quant_config")
    return quant if isinstance(quant, Mapping) else {}


def _node_info(given: Any) -> Mapping[str, Any]:
    """node_info as a mapping; its text form ``NODE:TYPE;...`` sets output types."""
    if not isinstance(given, str):
        return given if isinstance(given, Mapping) else {}
    pairs = (pair.rpartition(":") for pair in given.split(";") if pair.strip())
    return {node.strip(): {"OutputType": word.strip()} for node, _, word in pairs}


def _rows(name: str, wanted: Mapping[str, str], node: Node | None) -> Iterable[AskedGot]:
    kind = wanted.get("OutputType") or wanted.get("qtype") or wanted.get("InputType")
    for asked, got in ((wanted.get("ON"), "on"), (kind, "dtype")):
        if asked is None:
            continue
        if node is None:
            yield AskedGot(name, str(asked), "not a node of the built model", False)
        elif node.on == "NULL":
            yield AskedGot(name, str(asked), "fused into another node", False)
        else:
            found = str(getattr(node, got))
            yield AskedGot(name, str(asked), found, found == str(asked))
