"""Whether a run of hb_mapper made something good: status, marks and a fresh product, then the quality of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ptqbridge.backends.horizon.errors5 import explain_failure
from ptqbridge.backends.horizon.logs5 import Node, Record
from ptqbridge.errors import ToolchainFailed
from ptqbridge.result import AskedGot
from ptqbridge.toolchains.program import Finished

LOW_COSINE = 0.95
"""An output less like the float model's than this is worth a warning: Horizon's manuals look for 0.99 at least."""
_HUGE = 1e30
_DROPPED = ("does not exist", "not adjacent", "is not found in the model", "set back to")
"""What the tool's warnings say of requests that it drops."""


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


def judge(record: Record, *, calibrated: bool, loaded: bool = False) -> tuple[Finding, ...]:
    """What is wrong with a build that succeeded.

    ``calibrated``: the ranges are to come from samples; ``loaded``: from the model's Q/DQ nodes.
    """
    found = [*_thresholds(record.nodes, calibrated), *_cosines(record, calibrated)]
    if loaded and not found:
        found += _without_range(record.nodes)
    ignored = [line for line in record.warnings if any(words in line for words in _DROPPED)]
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


def _without_range(nodes: Iterable[Node]) -> Iterable[Finding]:
    """Nodes whose input came out of no Q/DQ nodes: hb_mapper gives them 1.0 without a word."""
    bare = [node.name for node in nodes if node.threshold == 1.0]
    if bare:
        text = f"the threshold of {_few(bare)} is 1.0: made up, unless the model's Q/DQ nodes say so"
        yield Finding("warning", "no-range", text)


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


@dataclass(frozen=True)
class Wish:
    """What was asked for one node: ``kind`` is ON, InputType or OutputType, ``value`` CPU, BPU, int8 or int16."""

    node: str
    kind: str
    value: str

    @property
    def text(self) -> str:
        """In words."""
        return {"ON": "on the ", "InputType": "input ", "OutputType": "output "}[self.kind] + self.value


def wishes(config: Mapping[str, Any]) -> tuple[Wish, ...]:
    """The per-node requests of a configuration, by section and key."""
    calibration = config.get("calibration_parameters") or {}
    found = [
        Wish(name, "ON", device)
        for key, device in (("run_on_cpu", "CPU"), ("run_on_bpu", "BPU"))
        for name in str(calibration.get(key) or "").split(";")
        if name
    ]
    nodes = (config.get("model_parameters") or {}).get("node_info")
    for name, settings in nodes.items() if isinstance(nodes, Mapping) else ():
        for key, value in settings.items():
            kind = "InputType" if key.startswith("InputType") else key
            found.append(Wish(name, kind, str(value)))
    return tuple(found)


def asked_got(wanted: Iterable[Wish], nodes: Iterable[Node], links: Mapping[str, Any]) -> tuple[AskedGot, ...]:
    """Per-node requests against the node table. ``links`` is the product's quant_info: node name to inputs, outputs.

    hb_mapper drops requests for names it does not find, fused nodes among them, without a word, and for a pool that it
    splits. The table shows a node's input type, so an output type is looked up at the nodes that read it, past those
    fused into their neighbours.
    """
    table = {_whole(node.name, links): node for node in nodes}
    rows = []
    for wish in wanted:
        found = [table[wish.node]] if wish.node in table else [n for n in table.values() if _part(n.name, wish.node)]
        if not found:
            rows.append(AskedGot(wish.node, wish.text, "not a node of the built model (fused or unknown)", False))
            continue
        if wish.kind == "OutputType":
            got = {reader.dtype for reader in _readers(wish.node, table, links)}
            said = " and ".join(sorted(got)) or "a model output, whose type the tool does not show"
        else:
            said = " and ".join(sorted({node.processor if wish.kind == "ON" else node.dtype for node in found}))
        rows.append(AskedGot(wish.node, wish.text, said, said.lower() == wish.value.lower()))
    return tuple(rows)


_ELIDED = "..."
"""The table shows a name of more than 50 characters by its last 47, after this."""


def _whole(shown: str, links: Iterable[str]) -> str:
    """The whole name of a node shown by its end, when only one node ends so."""
    if not shown.startswith(_ELIDED):
        return shown
    found = [name for name in links if name.endswith(shown[len(_ELIDED) :])]
    return found[0] if len(found) == 1 else shown


def _part(shown: str, node: str) -> bool:
    """Whether a shown node is a piece of ``node``, which the tool has split."""
    origin, split, _ = shown.partition("_SPLIT_")
    if not split:
        return False
    return node.endswith(origin[len(_ELIDED) :]) if origin.startswith(_ELIDED) else node == origin


def _readers(name: str, table: Mapping[str, Node], links: Mapping[str, Any]) -> Iterable[Node]:
    """The nodes of the table that read what ``name`` makes, directly or through nodes that are not in the table."""
    todo, seen = [name], {name}
    while todo:
        made = set(links.get(todo.pop(), {}).get("outputs", ()))
        for reader, entry in links.items():
            taken = {tensor.removesuffix("_calibrated") for tensor in entry.get("inputs", ())}
            if reader in seen or not made & taken:
                continue
            seen.add(reader)
            if reader in table:
                yield table[reader]
            else:
                todo.append(reader)
