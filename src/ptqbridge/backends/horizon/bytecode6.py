"""Compiling a ``.bc`` anew (``hb_compile -c YAML -m FILE.bc``): a model that is quantized already, for other settings.

Only the compiler's settings, removed nodes and the product's place are looked at then (Horizon's OE-Skills 0.2.0), so
that what asks for anything else is refused instead of being passed over.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ptqbridge.backends.horizon.context import Context
from ptqbridge.backends.horizon.rules import RULES
from ptqbridge.backends.horizon.schema6 import is_read
from ptqbridge.backends.horizon.settings import Settings
from ptqbridge.plan import COMMON, Row
from ptqbridge.rulebook import Verdict

_ITSELF = ("model_parameters.onnx_model",)
NOTE = "the .bc is quantized already: hb_compile compiles it anew and calibrates nothing"


def keep(settings: Settings) -> None:
    """Only what the tool reads stays in the YAML."""
    settings.yaml = {path: value for path, value in settings.yaml.items() if is_read(path)}


def refuse_lost(rows: tuple[Row, ...], context: Context) -> tuple[Row, ...]:
    """The rows, those refused whose effect would be lost; ``rows`` are in the order of what was asked."""
    made = []
    for row, item in zip(rows, context.request.asked, strict=True):
        emits: Mapping[str, Any] = {}
        if item.name == "horizonYaml":
            emits = {"yaml": {f"{section}.{key}": 0 for section, keys in context.overlay.items() for key in keys}}
        elif item.name not in COMMON:
            emits = RULES.apply(item.name, item.value, context).emits
        lost = list(_lost(emits))
        if lost and row.verdict is not Verdict.REFUSED:
            why = f"a .bc is quantized already, and {', '.join(lost)} would be passed over: build from the ONNX model"
            row = replace(row, verdict=Verdict.REFUSED, becomes="", why=why)
        elif item.name == "onnx":
            row = replace(row, becomes=f"--model {item.value}", why=NOTE)
        made.append(row)
    return tuple(made)


def _lost(emits: Mapping[str, Any]) -> Iterator[str]:
    for path, value in emits.get("yaml", {}).items():
        implied = value == {"all_node_type": "int8"}  # as --int8 says it
        if not is_read(path) and path not in _ITSELF and not implied:
            yield path
    if emits.get("shapes"):
        yield "input_parameters.input_shape"
    if emits.get("checker"):
        yield "hb_compile's checker"
