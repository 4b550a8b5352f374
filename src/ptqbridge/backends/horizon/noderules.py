"""Rules for ``node_info`` and ``quant_config``: precision and device of single nodes, settings of the quantiser.

Sources: hb_mapper 1.24.3's behaviour; Horizon's OE-Skills 0.2.0 (quantiser hmct 2.8).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ptqbridge.backends.horizon.view import WARNING, Finding, View

NODE_INFO = "model_parameters.node_info"
QUANT = "calibration_parameters.quant_config"
PLACES = ("model_config", "op_config", "subgraph_config", "node_config")
MODEL_KEYS = (
    "all_node_type",
    "model_output_type",
    "activation",
    "weight",
    "modelwise_search",
    "layerwise_search",
    "search",
    "experimental",
)
ACTIVATION_KEYS = (
    "calibration_type",
    "num_bin",
    "max_num_bin",
    "max_percentile",
    "per_channel",
    "asymmetric",
)
METHODS = ("max", "kl", "min-max", "percentile", "mix", "fixed", "load")
METRICS = ("cosine-similarity", "mse", "mae", "mre", "sqnr", "chebyshev")
_SIDE = re.compile(r"(InputType|input)\d*")


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
            yield from _known(view, key, node.strip())


def _node(view: View, key: str, node: str, wanted: Any) -> Iterator[Finding]:
    where = f"{key}.{node}"
    yield from _known(view, key, node)
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


def _known(view: View, key: str, node: str) -> Iterator[Finding]:
    if view.network and node not in view.network.nodes:
        expected = "expected a node of the model; the tool ignores others without a word"
        yield Finding(key, node, expected, "unknown node", WARNING)


def named_nodes(view: View) -> Iterator[Finding]:
    """run_on_cpu, run_on_bpu, output_nodes: nodes of the model."""
    for key in ("calibration_parameters.run_on_cpu", "calibration_parameters.run_on_bpu"):
        for node in view.words(key):
            yield from _known(view, key, node or "")
    for node in view.words("model_parameters.output_nodes"):
        if view.network and node not in view.network.nodes:
            expected = "expected a node of the model"
            yield Finding("model_parameters.output_nodes", node, expected, "output nodes")


def quant_config(view: View) -> Iterator[Finding]:
    """quant_config: a map with four places, or the path of a JSON file, which counts from the working folder."""
    given = view.get(QUANT)
    if given in (None, "", {}):
        return
    if isinstance(given, str):
        if not os.path.isabs(given):
            expected = "should be an absolute path: it counts from the tool's working folder, not from the YAML's"
            yield Finding(QUANT, given, expected, "quant_config path", WARNING)
        path = given if os.path.isabs(given) else view.path(given)
        if not os.path.isfile(path):
            if not view.away:
                yield Finding(QUANT, given, "expected an existing JSON file or a mapping", "quant_config path")
            return
        try:
            given = read_commented_json(path)
        except (OSError, ValueError) as error:
            yield Finding(QUANT, path, f"expected JSON ({error})", "quant_config")
            return
    if not isinstance(given, Mapping):
        yield Finding(QUANT, given, "expected a mapping or the path of a JSON file", "quant_config")
        return
    for place, content in given.items():
        if place not in PLACES:
            yield Finding(f"{QUANT}.{place}", content, f"expected one of {', '.join(PLACES)}", "quant_config")
        elif not isinstance(content, Mapping):
            yield Finding(f"{QUANT}.{place}", content, "expected a mapping", "quant_config")
        elif place == "model_config":
            yield from _model_config(content, view)
        else:
            for name, wanted in content.items():
                yield from _request(f"{QUANT}.{place}.{name}", place, wanted, view)
                if place == "node_config":
                    yield from _known(view, f"{QUANT}.node_config", str(name))
                elif place == "op_config" and str(name)[:1].islower():
                    expected = "operator types begin with a capital letter (Softmax): others match nothing"
                    yield Finding(f"{QUANT}.op_config", name, expected, "unknown operator", WARNING)


def read_commented_json(path: str) -> Any:
    """A quant_config file: JSON after ``//`` and ``/* */`` comments were cut out of the text, as the tool does.

    Raises OSError and ValueError.
    """
    with open(path, encoding="utf-8") as file:
        text = file.read()
    return json.loads(re.sub(r"//[^\n]*", "", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)))


def _model_config(content: Mapping[str, Any], view: View) -> Iterator[Finding]:
    where = f"{QUANT}.model_config"
    for name, value in content.items():
        if name not in MODEL_KEYS:
            yield Finding(f"{where}.{name}", value, f"expected one of {', '.join(MODEL_KEYS)}", "quant_config")
        elif name == "all_node_type" and value not in ("int8", "int16", "float16"):
            yield Finding(f"{where}.{name}", value, "expected int8, int16 or float16", "quant_config")
        elif name == "model_output_type" and value not in ("int8", "int16", "float16", "float32"):
            yield Finding(f"{where}.{name}", value, "expected int8, int16, float16 or float32", "quant_config")
        elif name == "activation" and isinstance(value, Mapping):
            yield from _activation(f"{where}.activation", value)
        elif name in ("modelwise_search", "layerwise_search") and isinstance(value, Mapping):
            metric = value.get("metric", METRICS[0])
            if metric not in METRICS:
                yield Finding(f"{where}.{name}.metric", metric, f"expected one of {', '.join(METRICS)}", "quant_config")


def _activation(where: str, content: Mapping[str, Any]) -> Iterator[Finding]:
    for name, value in content.items():
        values = value if isinstance(value, list) else [value]
        if name not in ACTIVATION_KEYS:
            yield Finding(f"{where}.{name}", value, f"expected one of {', '.join(ACTIVATION_KEYS)}", "quant_config")
        elif name == "calibration_type" and not set(map(str, values)) <= set(METHODS):
            yield Finding(f"{where}.{name}", value, f"expected {', '.join(METHODS)}", "quant_config")
        elif name == "max_percentile":
            for share in values:
                if not isinstance(share, float) or not 0 <= share <= 1:
                    expected = "expected a decimal from 0.5 to 1.0 (1.0, not 1)"
                    yield Finding(f"{where}.{name}", share, expected, "quant_config")
        elif name in ("per_channel", "asymmetric") and not all(isinstance(entry, bool) for entry in values):
            yield Finding(f"{where}.{name}", value, "expected true or false, or a list of them", "quant_config")


def _request(where: str, place: str, wanted: Any, view: View) -> Iterator[Finding]:
    if not isinstance(wanted, Mapping):
        yield Finding(where, wanted, "expected {qtype, InputType, OutputType}", "quant_config")
        return
    types = ("int8", "int16", "float16", "float32")
    for name, value in wanted.items():
        if name == "ON" and place == "node_config":
            if value not in ("BPU", "CPU"):
                yield Finding(f"{where}.ON", value, "expected BPU or CPU", "quant_config")
        elif name in ("qtype", "OutputType") or _SIDE.fullmatch(str(name)):
            if value not in types:
                yield Finding(f"{where}.{name}", value, f"expected one of {', '.join(types)}", "quant_config")
        elif not (place == "subgraph_config" and name in ("inputs", "outputs")):
            yield Finding(
                f"{where}.{name}", value, "expected qtype, InputType, InputTypeN or OutputType", "quant_config"
            )
