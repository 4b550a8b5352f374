"""Whether a run of hb_mapper made something good: status, marks and a fresh product, then the quality of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ptqbridge.backends.horizon.errors5 import explain_failure
from ptqbridge.backends.horizon.logs5 import Node, Record
from ptqbridge.errors import ToolchainFailed
from ptqbridge.result import AskedGot
from ptqbridge.toolchains.program import Finished

LOW_COSINE = 0.95
"""An output less like the float model's than this is worth a warning: Horizon's manuals look for 0.99 at least."""
_HUGE = 1e30


@dataclass(frozen=True)
class Finding:
    """One thing that status 0 does not tell: ``error`` (the ranges mean nothing) or ``warning``; ``check`` is short."""

    level: str
    check: str
    text: str


def check_success(finished: Finished, record: Record, product: Path) -> None:
    """Raise unless all is there: exit status 0, both marks of success, a product that is new and not empty.

    ``product`` must lie in a workspace that was empty before the run, so that being there means being new.
    Raises what ``explain_failure`` makes of the log, or ToolchainFailed.
    """
    if finished.timed_out:
        raise ToolchainFailed(f"hb_mapper was ended after {finished.seconds:.0f} s: it took longer than it may")
    if finished.status:
        raise explain_failure(finished.text, finished.status)
    if not record.succeeded:
        raise ToolchainFailed("hb_mapper ended with status 0, but its log does not say that it finished")
    if not product.is_file() or product.stat().st_size == 0:
        made = "made an empty one" if product.is_file() else "made none"
        raise ToolchainFailed(f"hb_mapper says it wrote {product.name}, but {made}")


def judge(record: Record, *, calibrated: bool) -> tuple[Finding, ...]:
    """What is wrong with a build that succeeded. ``calibrated``: the ranges are to come from samples."""
    found = [*_thresholds(record.nodes, calibrated), *_cosines(record, calibrated)]
    ignored = [line for line in record.warnings if "does not exist" in line or "not adjacent" in line]
    found += [Finding("warning", "ignored", f"hb_mapper: {' '.join(line.split())}") for line in ignored]
    return tuple(found)


def _thresholds(nodes: Iterable[Node], calibrated: bool) -> Iterable[Finding]:
    known = {node.name: node.threshold for node in nodes if node.threshold is not None}
    if not known:
        return
    if all(value == 1.0 for value in known.values()):
        text = "every threshold is 1.0: the ranges are made up, not calibrated"
        yield Finding("error" if calibrated else "warning", "made-up", text)
        return
    broken = [name for name, value in known.items() if not math.isfinite(value) or value <= 0 or value > _HUGE]
    if broken:
        text = f"thresholds of {_few(broken)} are no usable numbers: the calibration data hold inf, NaN or nothing"
        yield Finding("error", "thresholds", text)


def _cosines(record: Record, calibrated: bool) -> Iterable[Finding]:
    broken = [output.name for output in record.outputs if output.cosine is not None and math.isnan(output.cosine)]
    if broken:
        text = f"outputs {_few(broken)} cannot be compared with the float model (NaN): the data or weights hold NaN"
        yield Finding("error", "nan", text)
    low = [output for output in record.outputs if output.cosine is not None and output.cosine < LOW_COSINE]
    for output in low:
        worst = _worst(record.nodes)
        where = f"; the least alike node is {worst.name} ({worst.cosine:.4f})" if worst else ""
        text = f"output {output.name} has a cosine of {output.cosine:.4f} to the float model{where}"
        yield Finding("warning", "cosine", text)
    if calibrated and record.nodes and not record.outputs:
        yield Finding("warning", "no-cosine", "hb_mapper compared no output with the float model")


def _worst(nodes: Iterable[Node]) -> Node | None:
    known = [node for node in nodes if node.cosine is not None and math.isfinite(node.cosine)]
    return min(known, key=lambda node: node.cosine or 0.0, default=None)


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def asked_got(wanted: Mapping[str, str], nodes: Iterable[Node]) -> tuple[AskedGot, ...]:
    """Per-node requests against the node table: ``CPU``, ``BPU``, ``int8``, ``int16`` or ``float`` by node name.

    hb_mapper drops requests for names it does not find, fused nodes among them, without a word.
    """
    table = {node.name: node for node in nodes}
    rows = []
    for name, request in wanted.items():
        node = table.get(name)
        if node is None:
            rows.append(AskedGot(name, request, "not a node of the built model (fused or removed)", False))
            continue
        device = request.upper() in ("CPU", "BPU")
        got = node.processor if device else node.dtype
        rows.append(AskedGot(name, request, got, got.lower() == request.lower()))
    return tuple(rows)
