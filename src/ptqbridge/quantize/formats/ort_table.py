"""The tables that ONNX Runtime's TensorRT provider reads: one magnitude per tensor, as FlatBuffers or as text.

``write_calibration_table`` in onnxruntime/quantization/quant_utils.py writes both beside ``calibration.json``:
``calibration.flatbuffers`` (schema onnxruntime/quantization/CalTableFlatBuffers: a table with a vector ``dict`` of
tables with the strings ``key`` and ``value``) and ``calibration.cache``, lines of ``name number``. The number is
max(|min|, |max|) up to onnxruntime 1.16; later versions write max(min, max), which is too small for a tensor that
reaches further below 0 than above.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterable, Mapping
from typing import Any

from ptqbridge.errors import InputError
from ptqbridge.quantize.formats.forms import Form
from ptqbridge.quantize.ranges import Ranges, TensorRange

NOTE = (
    "onnxruntime from 1.17 on writes the largest value here, not the largest magnitude: tensors that reach further "
    "below 0 are too narrow (calibration.json has both ends)"
)
_MOST = 64 << 20


def looks_flat(data: bytes) -> bool:
    """Whether bytes may be such a FlatBuffers file: its first word points at a table within it."""
    root = int.from_bytes(data[:4], "little")
    return len(data) >= 12 and 4 <= root <= len(data) - 4 and root % 4 == 0


def from_flat(data: bytes) -> Ranges:
    """Read ``calibration.flatbuffers``. Raises InputError, one line."""
    if len(data) > _MOST:
        raise InputError(f"expected a calibration table, found {len(data)} bytes")
    from onnxruntime.quantization.CalTableFlatBuffers.TrtTable import TrtTable

    pairs: list[tuple[str, str]] = []
    taken = 0
    try:
        table = TrtTable.GetRootAs(data, 0)
        for index in range(table.DictLength()):
            entry = table.Dict(index)
            key, value = entry.Key(), entry.Value()
            taken += len(key) + len(value)
            if taken > len(data):  # damaged offsets may show one text again and again
                raise ValueError
            pairs.append((key.decode("utf-8"), value.decode("utf-8")))
    except Exception:  # the generated code checks nothing: damage shows as any kind of error
        raise InputError(
            "expected ONNX Runtime's calibration table as FlatBuffers, found another or a damaged binary file"
        ) from None
    return _ranges((f"entry {index}", *pair) for index, pair in enumerate(pairs))


def from_text(text: str) -> Ranges:
    """Read ``calibration.cache``. Raises InputError, one line beginning with the line's number."""
    lines = [(f"line {number}", line.rstrip("\r")) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    return _ranges((place, *line.rpartition(" ")[::2]) for place, line in lines)


def looks_text(text: str) -> bool:
    """Whether the first line is ``name number``, without the colon of TensorRT's own caches."""
    name, _, number = text.partition("\n")[0].rstrip("\r").rpartition(" ")
    return bool(name) and not name.endswith(":") and _number(number) is not None


def is_plain(name: str) -> bool:
    """Whether a text that begins with ``name`` cannot be taken for JSON or a cache of TensorRT."""
    return name.strip() == name != "" and name[0] not in "[{\ufeff" and name[-1] != ":"


def _ranges(entries: Iterable[tuple[str, str, str]]) -> Ranges:
    tensors: dict[str, TensorRange] = {}
    for place, name, text in entries:
        value = _number(text)
        if value is None or value < 0:
            raise InputError(f"{place}: expected a magnitude of 0 or more for {name[:60]!r}, found {text[:40]!r}")
        if not name:
            raise InputError(f"{place}: expected a tensor's name, found none")
        if name in tensors:
            raise InputError(f"{place}: expected each tensor once, found {name!r} again")
        tensors[name] = TensorRange(-value if value else 0.0, value, "")
    if not tensors:
        raise InputError("expected at least one tensor, found none")
    return Ranges("", "onnxruntime", 0, "", "", {}, tensors, {})


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def render_table(tensors: Mapping[str, TensorRange], form: Form) -> str | bytes:
    """The file of ``form`` (one of the two); numbers are written so that they read back bit for bit."""
    values = {name: repr(float(found.amax)) for name, found in sorted(tensors.items())}
    if form is Form.ORT_TEXT:
        return "".join(f"{name} {value}\n" for name, value in values.items())
    from onnxruntime.quantization.CalTableFlatBuffers import KeyValue, TrtTable

    builder: Any = importlib.import_module("flatbuffers").Builder(1024)  # has no types
    entries = []
    for name, value in values.items():
        key, text = builder.CreateString(name), builder.CreateString(value)
        KeyValue.KeyValueStart(builder)
        KeyValue.KeyValueAddKey(builder, key)
        KeyValue.KeyValueAddValue(builder, text)
        entries.append(KeyValue.KeyValueEnd(builder))
    TrtTable.TrtTableStartDictVector(builder, len(entries))
    for entry in reversed(entries):  # a vector is built from its end
        builder.PrependUOffsetTRelative(entry)
    vector = builder.EndVector()
    TrtTable.TrtTableStart(builder)
    TrtTable.TrtTableAddDict(builder, vector)
    builder.Finish(TrtTable.TrtTableEnd(builder))
    return bytes(builder.Output())
