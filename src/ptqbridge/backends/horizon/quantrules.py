"""Rules for ``quant_config``: the quantiser's settings for the model, operator types, subgraphs and single nodes.

Source: Horizon's OE-Skills 0.2.0 (quantiser hmct 2.8).
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any

from ptqbridge.backends.horizon.noderules import known_node
from ptqbridge.backends.horizon.view import WARNING, Finding, View
from ptqbridge.errors import InputError

QUANT = "calibration_parameters.quant_config"
PLACES = ("model_config", "op_config", "subgraph_config", "node_config")
"""Where settings can stand; a later one wins."""
TYPES = ("int8", "int16", "float16", "float32")
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
METHODS = ("max", "kl", "min-max", "percentile", "mix", "fixed", "load")
METRICS = ("cosine-similarity", "mse", "mae", "mre", "sqnr", "chebyshev")
LEAST_BINS, LEAST_TOP_BINS = 129, 258
_SIDE = re.compile(r"(InputType|input)\d*")


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
            yield _fault(f"{QUANT}.{place}", content, _one_of(PLACES))
        elif not isinstance(content, Mapping):
            yield _fault(f"{QUANT}.{place}", content, "a mapping")
        elif place == "model_config":
            yield from _model_config(content)
        else:
            for name, wanted in content.items():
                yield from _request(f"{QUANT}.{place}.{name}", place, wanted, view)
                if place == "node_config":
                    yield from known_node(view, f"{QUANT}.node_config", str(name))
                elif place == "op_config" and str(name)[:1].islower():
                    expected = "operator types begin with a capital letter (Softmax): others match nothing"
                    yield Finding(f"{QUANT}.op_config", name, expected, "unknown operator", WARNING)


def _fault(where: str, value: Any, expected: str) -> Finding:
    return Finding(where, value, f"expected {expected}", "quant_config")


def _one_of(words: tuple[str, ...]) -> str:
    return f"one of {', '.join(words)}"


def read_quant_config(path: str) -> Any:
    """A quant_config file for a YAML: as JSON where it is that, so that names with ``//`` live, else without comments.

    Raises InputError.
    """
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
        try:
            return json.loads(text)
        except ValueError:
            return read_commented_json(path)
    except (OSError, ValueError) as error:
        raise InputError(f"quant_config: {path} cannot be read as JSON ({error})") from None


def read_commented_json(path: str) -> Any:
    """A quant_config file: JSON after ``//`` and ``/* */`` comments were cut out of the text, as the tool does.

    Raises OSError and ValueError.
    """
    with open(path, encoding="utf-8") as file:
        text = file.read()
    return json.loads(re.sub(r"//[^\n]*", "", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL)))


def _model_config(content: Mapping[str, Any]) -> Iterator[Finding]:
    where = f"{QUANT}.model_config"
    inner = {"activation": _activation, "weight": _weight, "modelwise_search": _modelwise}
    inner["layerwise_search"] = _layerwise
    for name, value in content.items():
        if name not in MODEL_KEYS:
            yield _fault(f"{where}.{name}", value, _one_of(MODEL_KEYS))
        elif name == "all_node_type" and value not in TYPES[:3]:
            yield _fault(f"{where}.{name}", value, _one_of(TYPES[:3]))
        elif name == "model_output_type" and value not in TYPES:
            yield _fault(f"{where}.{name}", value, _one_of(TYPES))
        elif name in inner:
            if isinstance(value, Mapping):
                yield from inner[name](f"{where}.{name}", value)
            else:
                yield _fault(f"{where}.{name}", value, "a mapping")
    if "modelwise_search" in content and "layerwise_search" in content:
        expected = "is switched off by layerwise_search"
        yield Finding(f"{where}.modelwise_search", content["modelwise_search"], expected, "quant_config", WARNING)


def _activation(where: str, content: Mapping[str, Any]) -> Iterator[Finding]:
    keys = ("calibration_type", "num_bin", "max_num_bin", "max_percentile", "per_channel", "asymmetric")
    for name, value in content.items():
        values = value if isinstance(value, list) else [value]
        at = f"{where}.{name}"
        if name not in keys:
            yield _fault(at, value, _one_of(keys))
        elif not values:
            yield _fault(at, value, "at least one entry")
        elif name == "calibration_type" and not set(map(str, values)) <= set(METHODS):
            yield _fault(at, value, _one_of(METHODS))
        elif name == "max_percentile":
            yield from _shares(at, values)
        elif name in ("num_bin", "max_num_bin"):
            yield from _bins(at, values, LEAST_BINS if name == "num_bin" else LEAST_TOP_BINS)
        elif name in ("per_channel", "asymmetric") and not all(isinstance(entry, bool) for entry in values):
            yield _fault(at, value, "true or false, or a list of them")


def _shares(where: str, values: list[Any]) -> Iterator[Finding]:
    for share in values:
        if not isinstance(share, float) or not 0 <= share <= 1:
            yield _fault(where, share, "a decimal from 0.5 to 1.0 (1.0, not 1)")
        elif share < 0.5:
            yield Finding(where, share, "works as 0.5", "quant_config", WARNING)


def _bins(where: str, values: list[Any], least: int) -> Iterator[Finding]:
    for count in values:
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            yield _fault(where, count, f"a whole number, {least} or more")
        elif count < least:
            yield Finding(where, count, f"works as {least}", "quant_config", WARNING)


def _weight(where: str, content: Mapping[str, Any]) -> Iterator[Finding]:
    keys = ("bias_correction", "calibration_type", "max_percentile")
    for name, value in content.items():
        at = f"{where}.{name}"
        if name not in keys:
            yield _fault(at, value, _one_of(keys))
        elif name == "calibration_type":
            if not set(map(str, value if isinstance(value, list) else [value])) <= set(METHODS):
                yield _fault(at, value, _one_of(METHODS))
        elif name == "max_percentile":
            yield from _shares(at, value if isinstance(value, list) else [value])
        elif not isinstance(value, Mapping):
            yield _fault(at, value, "a mapping of num_sample and metric")
        else:
            yield from _settings(at, value, {"num_sample": _count, "metric": _metric})


def _modelwise(where: str, content: Mapping[str, Any]) -> Iterator[Finding]:
    yield from _settings(where, content, {"similarity": _similarity, "metric": _metric})


def _layerwise(where: str, content: Mapping[str, Any]) -> Iterator[Finding]:
    yield from _settings(where, content, {"metric": _metric, "topk": _count, "qtype": _qtype})


def _settings(where: str, content: Mapping[str, Any], checks: Mapping[str, Any]) -> Iterator[Finding]:
    """Keys with a check each, which gives what was expected, "" when the value is good."""
    for name, value in content.items():
        if name not in checks:
            yield _fault(f"{where}.{name}", value, _one_of(tuple(checks)))
        elif checks[name](value):
            yield _fault(f"{where}.{name}", value, checks[name](value))


def _count(value: Any) -> str:
    good = isinstance(value, int) and not isinstance(value, bool) and value >= 1
    return "" if good else "a whole number, 1 or more"


def _metric(value: Any) -> str:
    return "" if value in METRICS else _one_of(METRICS)


def _qtype(value: Any) -> str:
    return "" if value in TYPES else _one_of(TYPES)


def _similarity(value: Any) -> str:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1
    return "" if good else "a number from 0 to 1"


def _request(where: str, place: str, wanted: Any, view: View) -> Iterator[Finding]:
    keys = {
        "op_config": ("qtype", "InputType", "OutputType"),
        "subgraph_config": ("inputs", "outputs", "qtype"),
        "node_config": ("qtype", "InputType", "InputTypeN", "OutputType", "ON"),
    }[place]
    if not isinstance(wanted, Mapping) or not wanted:
        yield _fault(where, wanted, f"a mapping of {', '.join(keys)}")
        return
    for name, value in wanted.items():
        at = f"{where}.{name}"
        if name is True:
            yield _fault(where, "ON", "'ON' in quotes: YAML reads the bare word as true")
        elif place == "subgraph_config" and name in ("inputs", "outputs"):
            yield from _ends(at, value, view)
        elif place == "node_config" and name == "ON":
            if value not in ("BPU", "CPU"):
                yield _fault(at, value, "BPU or CPU")
        elif name in keys or _SIDE.fullmatch(str(name)):
            if value not in TYPES:
                yield _fault(at, value, _one_of(TYPES))
        else:
            yield _fault(at, value, _one_of(keys))
    if place == "subgraph_config":
        for name in keys:
            if name not in wanted:
                expected = _one_of(TYPES) if name == "qtype" else "the nodes it begins or ends with"
                yield _fault(f"{where}.{name}", None, expected)


def _ends(where: str, value: Any, view: View) -> Iterator[Finding]:
    if not isinstance(value, list) or not value:
        yield _fault(where, value, "a list of node names")
        return
    for node in value:
        yield from known_node(view, where, str(node))
