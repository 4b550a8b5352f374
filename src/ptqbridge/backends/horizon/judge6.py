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
    """Requests of node_info and quant_config.node_config against the node table of the log.

    The table shows a node's place and output type: a request for the input side is compared with that type.
    """
    model = config.get("model_parameters") or {}
    quant = (config.get("calibration_parameters") or {}).get("quant_config")
    wishes: dict[str, dict[str, str]] = {}
    sources = [model.get("node_info"), quant.get("node_config") if isinstance(quant, Mapping) else None]
    for source in sources:
        for name, wanted in source.items() if isinstance(source, Mapping) else ():
            wishes.setdefault(str(name), {}).update(wanted)
    table = {node.name: node for node in nodes}
    return tuple(row for name, wanted in wishes.items() for row in _rows(name, wanted, table.get(name)))


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
