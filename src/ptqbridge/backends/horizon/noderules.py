"""Rules for ``node_info`` and lists of nodes: precision and device of single nodes.

Sources: hb_mapper 1.24.3's behaviour; Horizon's OE-Skills 0.2.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from ptqbridge.backends.horizon.view import WARNING, Finding, View

NODE_INFO = "model_parameters.node_info"


def nodes(view: View) -> Iterator[Finding]:
    """node_info: a map of nodes, or ``NODE:TYPE`` texts; the types are those of the march."""
    for key in (NODE_INFO, "model_parameters.set_node_data_type"):
        given = view.get(key)
        if given in (None, "") or (view.journey6 and key != NODE_INFO):
            continue
        if isinstance(given, str):
            yield from _texts(view, key, given)
        elif isinstance(given, Mapping):
            for node, wanted in given.items():
                yield from _node(view, key, str(node), wanted)
        else:
            yield Finding(key, given, "expected a mapping {node: {ON, InputType, OutputType}}", "node_info")


def _texts(view: View, key: str, given: str) -> Iterator[Finding]:
    pairs = [pair for pair in given.split(";") if pair.strip()]
    if len(pairs) > 1 and not view.journey6:
        yield Finding(key, given, "expected one NODE:TYPE (several only as a mapping)", "node_info")
    for pair in pairs:
        node, _, word = pair.rpartition(":")
        if not node or word.strip() not in view.march.types:
            yield Finding(key, pair, f"expected NODE:{' or NODE:'.join(view.march.types)}", "node_info")
        else:
            yield from known_node(view, key, node.strip())


def _node(view: View, key: str, node: str, wanted: Any) -> Iterator[Finding]:
    where = f"{key}.{node}"
    yield from known_node(view, key, node)
    if not isinstance(wanted, Mapping):
        yield Finding(where, wanted, "expected {ON, InputType, OutputType}", "node_info")
        return
    for name, value in wanted.items():
        if name is True:
            yield Finding(where, "ON", "expected 'ON' in quotes: YAML reads the bare word as true", "node_info")
        elif name == "ON":
            if value not in ("BPU", "CPU"):
                yield Finding(f"{where}.ON", value, "expected BPU or CPU", "node_info")
        elif name == "OutputType" or re.fullmatch(r"InputType\d*", str(name)):
            able = (*view.march.types, "float32") if view.journey6 else view.march.types
            if value not in able:
                expected = f"expected {' or '.join(able)} on {view.march.name}"
                yield Finding(f"{where}.{name}", value, expected, "node_info")
        else:
            yield Finding(where, name, "expected the keys ON, InputType, InputType0.., OutputType", "node_info")


def known_node(view: View, key: str, node: str) -> Iterator[Finding]:
    """A remark when the model has no such node."""
    if view.network and node not in view.network.nodes:
        expected = "expected a node of the model; the tool ignores others without a word"
        yield Finding(key, node, expected, "unknown node", WARNING)


def named_nodes(view: View) -> Iterator[Finding]:
    """run_on_cpu, run_on_bpu, output_nodes: nodes of the model."""
    for key in ("calibration_parameters.run_on_cpu", "calibration_parameters.run_on_bpu"):
        for node in view.words(key):
            yield from known_node(view, key, node or "")
    for node in view.words("model_parameters.output_nodes"):
        if view.network and node not in view.network.nodes:
            expected = "expected a node of the model"
            yield Finding("model_parameters.output_nodes", node, expected, "output nodes")
