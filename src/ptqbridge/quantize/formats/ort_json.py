"""ONNX Runtime's calibration files as JSON, in the two shapes that its quantization package writes.

*Cache* (onnxruntime 1.31 on, ``quantize_static(calibration_cache_path=...)``; ``save_tensors_data`` and
``CalibrationCacheEncoder`` in onnxruntime/quantization/calibrate.py): an object with ``"CLS": "TensorsData"``,
``"data": {name: {"lowest": array, "highest": array, "CLS": "TensorData"}}``, ``"calibration_method"`` and
``"smooth_quant"``, an array being ``{"data": number or list, "dtype": "float32", "CLS": "numpy.array"}``.

*Table* (``calibration.json`` of ``write_calibration_table`` in onnxruntime/quantization/quant_utils.py): ``{name: [min,
max]}`` up to 1.16, later the ``TensorData`` objects above by name.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from ptqbridge.errors import InputError
from ptqbridge.quantize.formats.forms import Form, Loss
from ptqbridge.quantize.formats.trt_cache import to_float32
from ptqbridge.quantize.ranges import Ranges, TensorRange

METHODS = {"MinMax": "max", "Entropy": "entropy", "Percentile": "percentile"}
"""ONNX Runtime's calibration methods and ours; its fourth, Distribution, keeps no ranges."""
_NEAREST = {
    "max": "MinMax", "minmax": "MinMax", "percentile": "Percentile",
    "entropy": "Entropy", "entropy2": "Entropy", "kl": "Entropy",
}  # fmt: skip


def form_of_json(document: object) -> Form | None:
    """Which of the two shapes a JSON document has; None for neither."""
    if not isinstance(document, dict):
        return None
    if document.get("CLS") == "TensorsData":
        return Form.ORT_CACHE
    if document and all(_is_entry(entry) for entry in document.values()):
        return Form.ORT_TABLE
    return None


def _is_entry(entry: object) -> bool:
    return (isinstance(entry, list) and len(entry) >= 2) or (
        isinstance(entry, dict) and entry.get("CLS") == "TensorData"
    )


def from_json(document: Mapping[str, Any]) -> tuple[Ranges, list[Loss]]:
    """Read either shape. Ranges per channel become one per tensor, said as a loss.

    Raises InputError, one line, naming the tensor.
    """
    method = ""
    details: dict[str, object] = {}
    entries = document
    if document.get("CLS") == "TensorsData":
        method = _method(document.get("calibration_method"))
        details = {"smooth_quant": bool(document.get("smooth_quant", False))}
        data = document.get("data")
        entries = data if isinstance(data, dict) else {}
    if not entries:
        raise InputError("expected at least one tensor, found none")
    tensors: dict[str, TensorRange] = {}
    per_channel: list[str] = []
    for name, entry in entries.items():
        lows, highs = _ends(name, entry)
        low, high = min(lows), max(highs)
        if low > high:
            raise InputError(f"tensor {name!r}: expected lowest <= highest, found [{low}, {high}]")
        if len(lows) > 1 or len(highs) > 1:
            per_channel.append(name)
        tensors[name] = TensorRange(low, high, method)
    losses = []
    if per_channel:
        text = f"per channel: {len(per_channel)} tensors had a range per channel; the widest is kept"
        losses.append(Loss("per_channel", text, len(per_channel)))
    return Ranges(method, "onnxruntime", 0, "", "", {}, tensors, details), losses


def _method(value: object) -> str:
    word = str(value.get("value", "")) if isinstance(value, dict) else str(value)
    word = word.rpartition(".")[2]
    if word == "Distribution":
        raise InputError("calibration_method Distribution: it keeps means and deviations, not ranges")
    if word not in METHODS:
        raise InputError(f"calibration_method: expected one of {', '.join(METHODS)}, found {word!r}")
    return METHODS[word]


def _ends(name: str, entry: object) -> tuple[list[float], list[float]]:
    if isinstance(entry, dict):
        missing = [key for key in ("lowest", "highest") if key not in entry]
        if missing:
            raise InputError(f"tensor {name!r}: expected lowest and highest, found no {' and no '.join(missing)}")
        return _numbers(name, entry["lowest"]), _numbers(name, entry["highest"])
    if isinstance(entry, list) and len(entry) >= 2:
        return _numbers(name, entry[0]), _numbers(name, entry[1])
    raise InputError(f"tensor {name!r}: expected [min, max], found {str(entry)[:40]!r}")


def _numbers(name: str, value: object) -> list[float]:
    if isinstance(value, dict):
        value = value.get("data")
    flat = list(_flat(value))
    if not flat or not all(isinstance(n, (int, float)) and not isinstance(n, bool) and math.isfinite(n) for n in flat):
        raise InputError(f"tensor {name!r}: expected finite numbers, found {str(value)[:40]!r}")
    return [float(number) for number in flat]


def _flat(value: object) -> list[Any]:
    return [item for part in value for item in _flat(part)] if isinstance(value, list) else [value]


def to_json(ranges: Ranges, form: Form) -> tuple[str, list[Loss]]:
    """The text of ``form`` (one of the two) and what it cannot hold."""
    if form is Form.ORT_TABLE:
        table = {name: [r.min, r.max] for name, r in ranges.tensors.items()}
        return json.dumps(table, ensure_ascii=False, allow_nan=False) + "\n", []
    word = _NEAREST.get(ranges.method, "MinMax")
    losses = []
    if METHODS[word] != ranges.method and ranges.method != "minmax":
        asked = ranges.method or "unknown"
        losses.append(
            Loss(
                "method_word",
                f"method: {asked} has no word here; CalibrationMethod.{word} is written, and quantize_static must be "
                "called with it",
            )
        )
    rounded = sum(to_float32(end) != end for r in ranges.tensors.values() for end in (r.min, r.max))
    if rounded:
        losses.append(Loss("rounding", f"rounding: {rounded} bounds become float32", rounded))
    document = {
        "CLS": "TensorsData",
        "data": {
            name: {"lowest": _array(r.min), "highest": _array(r.max), "CLS": "TensorData"}
            for name, r in ranges.tensors.items()
        },
        "calibration_method": {"CLS": "CalibrationMethod", "value": f"CalibrationMethod.{word}"},
        "smooth_quant": bool(ranges.details.get("smooth_quant", False)),
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False) + "\n", losses


def _array(value: float) -> dict[str, object]:
    return {"data": to_float32(value), "dtype": "float32", "CLS": "numpy.array"}
