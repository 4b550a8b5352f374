"""The compiler's static estimate of a .hbm, from the JSON file that hb_compile writes beside it.

Source of the file's form: Horizon's OE-Skills 0.2.0 (manual of hbdk4's ``hbm_perf``). It is no measurement, and only of
the BPU's part.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HOW = "the compiler's static estimate of the BPU's part; no measurement"
_NUMBERS = {
    "fps": ("performance", "FPS"),
    "latency_us": ("performance", "latency (us)"),
    "ddr_megabytes": ("DDR access data", "DDR megabytes per run"),
    "loaded_bytes": ("DDR access data", "loaded bytes per run"),
    "stored_bytes": ("DDR access data", "stored bytes per run"),
    "static_memory_bytes": ("DDR access data", "static memory"),
    "dynamic_memory_bytes": ("DDR access data", "dynamic memory"),
    "cores": ("model info", "BPU core number"),
    "operations": ("model info", "original conv ops"),
}
_LAYER = {"active period of time": "active", "computing cost (no DDR)": "computing", "load cost": "load"}
_LAYER |= {"store cost": "store", "origin ops": "operations"}


def read_estimate(folder: Path, prefix: str) -> dict[str, Any]:
    """Numbers and layers of the estimate; {} when there is none that can be read.

    ``fps``, ``latency_us`` (microseconds a frame), traffic and memory in bytes, ``layers`` in the tool's order with the
    shares as it writes them. What the file does not hold is left out.
    """
    for name in (f"{prefix}.json", "model.json"):
        try:
            summary = json.loads((folder / name).read_text(encoding="utf-8"))["summary"]
        except (OSError, ValueError, KeyError, TypeError):
            continue
        found = _numbers(summary) if isinstance(summary, Mapping) else {}
        if found:
            return {"how": HOW, "file": name, **found}
    return {}


def _numbers(summary: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, (part, key) in _NUMBERS.items():
        inner = summary.get(part)
        value = inner.get(key) if isinstance(inner, Mapping) else summary.get(key)
        if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value):
            found[name] = value
    performance = summary.get("performance")
    segments = performance.get("latency (us) by segments") if isinstance(performance, Mapping) else None
    if isinstance(segments, list) and segments:
        found["segments_us"] = [value for value in segments if isinstance(value, (int, float))]
    layers = summary.get("layer details")
    if isinstance(layers, list):
        found["layers"] = [
            {"name": str(layer.get("layer name", "")), **{_LAYER[key]: layer[key] for key in _LAYER if key in layer}}
            for layer in layers
            if isinstance(layer, Mapping)
        ]
    return found if "fps" in found or "latency_us" in found else {}


def told(estimate: Mapping[str, Any]) -> str:
    """One line."""
    parts = []
    if "latency_us" in estimate:
        parts.append(f"{estimate['latency_us'] / 1000:.6g} ms a frame")
    if "fps" in estimate:
        parts.append(f"{estimate['fps']:.6g} frames per second")
    if "ddr_megabytes" in estimate:
        parts.append(f"{estimate['ddr_megabytes']:.6g} MB to and from memory a frame")
    return f"the compiler estimates {', '.join(parts)}"
