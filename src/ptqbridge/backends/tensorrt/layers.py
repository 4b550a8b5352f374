"""What became of per-layer types: what was set on the network, against what the inspector says of the engine.

The inspector's JSON (IEngineInspector, v8.6.1 and v10.13.3) is detailed only with ``--profilingVerbosity=detailed``;
``Name`` joins the names of fused layers, ``Metadata`` holds those of the ONNX, and a tensor's ``Format/Datatype`` is a
phrase.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ptqbridge.backends.tensorrt.wildcards import matches
from ptqbridge.errors import InputError, LimitNotMet
from ptqbridge.result import AskedGot
from ptqbridge.spec import Precision

WORDS = {"FLOAT": "fp32", "HALF": "fp16", "BF16": "bf16", "INT8": "int8", "FP8": "fp8", "INT32": "int32"}
"""Names of trt.DataType, as trtexec writes them."""
_PHRASES = (
    ("bf16", r"bf16|bfloat16"),
    ("fp16", r"fp16|half"),
    ("fp8", r"fp8"),
    ("int8", r"int8"),
    ("fp32", r"fp32|float"),
    ("int32", r"int32"),
)
"""Words in the inspector's phrases; the first that fits counts."""
Wish = tuple[str, str, tuple[str, ...]]
"""Layer, ``precision`` or ``outputs``, and the types asked for."""


def wishes(network: Any) -> list[Wish]:
    """The types that were set on layers of a parsed network, in its order."""
    found: list[Wish] = []
    for layer in (network.get_layer(index) for index in range(network.num_layers)):
        if layer.precision_is_set:
            found.append((layer.name, "precision", (_word(layer.precision),)))
        outputs = range(layer.num_outputs)
        if layer.num_outputs and all(layer.output_type_is_set(index) for index in outputs):
            found.append((layer.name, "outputs", tuple(_word(layer.get_output_type(index)) for index in outputs)))
    return found


def _word(kind: Any) -> str:
    name = str(kind.name)
    return WORDS.get(name, name.lower())


def unknown_layers(precision: Precision, names: Iterable[str], *, stars: bool) -> tuple[str, ...]:
    """Notes on requests that fit none of the layers ``names``. ``stars``: one ``*`` may stand for any part of a name.

    Raises InputError for the first one under ``--precisionConstraints=obey``; devices are never a matter of obeying.
    """
    names = set(names)
    options: dict[str, Mapping[str, Any]] = {"layerDeviceTypes": precision.layer_devices}
    if precision.constraints != "none":
        options |= {"layerPrecisions": precision.layers, "layerOutputTypes": precision.layer_outputs}
    notes: list[str] = []
    for option, asked in options.items():
        for pattern in asked:
            lone = pattern == "*" and option != "layerDeviceTypes"
            fits = lone or pattern in names or (stars and any(matches(pattern, name) for name in names))
            if fits:
                continue
            why = "" if stars or "*" not in pattern else " (TensorRT 8.6 reads no pattern but a * alone)"
            text = f"--{option}: {pattern!r} matches no layer{why}"
            if option != "layerDeviceTypes" and precision.constraints == "obey":
                close = difflib.get_close_matches(pattern, names, 1)
                raise InputError(text, hint=f"did you mean {close[0]}?" if close else "")
            notes.append(text)
    return tuple(notes)


def compare(asked: Sequence[Wish], inspected: str) -> tuple[tuple[AskedGot, ...], tuple[str, ...]]:
    """Rows for what the inspector's JSON tells, and notes on what it does not.

    A layer computes in the type of its weights, else in that of its first input. Outputs are told where the layer is
    the last of those fused into one.
    """
    if not asked:
        return (), ()
    try:
        told = json.loads(inspected or "{}").get("Layers", ())
    except ValueError:  # TensorRT does not escape all names
        return (), ("the types that the layers got are not known: TensorRT's account of the engine is no valid JSON",)
    layers = [entry for entry in told if isinstance(entry, Mapping)]
    if not layers:
        return (), ("--profilingVerbosity=detailed shows which types the layers asked for got",)
    places = {name: entry for entry in layers for name in _members(entry)}
    rows: list[AskedGot] = []
    untold: list[str] = []
    for name, what, types in asked:
        entry = places.get(name, {})
        got = (_computes(entry),) if what == "precision" else _outputs(entry, name)
        if not entry or not got or not all(got):
            untold.append(name)
            continue
        fused = entry.get("Name", name)
        said = "+".join(got) + (f" (in {fused})" if fused != name else "")
        kind = "outputs " if what == "outputs" else ""
        rows.append(AskedGot(name, kind + "+".join(types), said, got == types))
    notes = (f"TensorRT does not tell the types of {_few(untold)} (fused or left out)",) if untold else ()
    return tuple(rows), notes


def _members(entry: Mapping[str, Any]) -> list[str]:
    """Names of the network's layers that one layer of the engine is made of; none for a mere change of format."""
    if entry.get("LayerType") == "Reformat":
        return []
    known = re.findall(r"\[ONNX Layer: ([^\]]*)\]", str(entry.get("Metadata", "")))
    joined = re.sub(r"PWN\(|\)$", "", str(entry.get("Name", "")))
    return [*known, *(name.strip() for name in re.split(r" \+ | \|\| |, ", joined))]


def _type(phrase: object) -> str:
    text = str(phrase or "").lower()
    return next((word for word, pattern in _PHRASES if re.search(pattern, text)), "")


def _tensor(tensor: Any) -> str:
    if not isinstance(tensor, Mapping):
        return ""
    return _type(tensor.get("Format/Datatype") or tensor.get("Datatype") or tensor.get("Format"))


def _computes(entry: Mapping[str, Any]) -> str:
    weights = entry.get("Weights")
    kind = _type(weights.get("Type")) if isinstance(weights, Mapping) else ""
    return kind or next((_tensor(tensor) for tensor in entry.get("Inputs") or ()), "")


def _outputs(entry: Mapping[str, Any], name: str) -> tuple[str, ...]:
    if not entry or _members(entry)[-1] != name:
        return ()
    return tuple(_tensor(tensor) for tensor in entry.get("Outputs") or ())


def enforce(rows: Iterable[AskedGot], constraints: str) -> None:
    """Raise LimitNotMet with the first request that was not met, under ``--precisionConstraints=obey``."""
    missed = [row for row in rows if not row.met]
    if missed and constraints == "obey":
        more = f" (and {len(missed) - 1} more)" if len(missed) > 1 else ""
        raise LimitNotMet(
            f"--precisionConstraints=obey: layer {missed[0].layer!r} was asked in {missed[0].asked},"
            f" got {missed[0].got}{more}",
            hint="--precisionConstraints=prefer accepts the difference and reports it",
        )


def _few(names: Sequence[str]) -> str:
    names = list(dict.fromkeys(names))
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
