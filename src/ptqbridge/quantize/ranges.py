"""The result of a calibration: one range per tensor, with how, from what and by which versions it was found."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from ptqbridge.errors import InputError


@dataclass(frozen=True)
class TensorRange:
    """The values a tensor takes (or is clipped to), in the tensor's own unit.

    ``min`` and ``max`` are finite and ``min <= max``; both are 0.0 for an all-zero or empty tensor, whose scale is
    then the quantizer's choice. ``min`` is 0.0 where the graph proves the tensor non-negative. ``method`` is how this
    one tensor's range was found (``max``, ``percentile``, ``entropy2``, ...), or ``constant``/``empty``.
    """

    min: float
    max: float
    method: str

    @property
    def amax(self) -> float:
        """The largest magnitude: what a symmetric scheme divides by 127."""
        return max(abs(self.min), abs(self.max))


@dataclass(frozen=True)
class Ranges:
    """Per-tensor ranges of one model, and where they come from.

    ``method`` is the algorithm asked for, ``scheme`` the placement (``tensorrt``, ``horizon``, ``onnxruntime``) that
    chose the tensors, ``samples`` how many samples were seen. The fingerprints are SHA-256 in hex, or ``""`` when
    unknown. ``details`` holds what else is worth knowing (parameters, aliases, tensors left out) as plain JSON values.
    """

    method: str
    scheme: str
    samples: int
    data_fingerprint: str
    model_fingerprint: str
    versions: Mapping[str, str]
    tensors: Mapping[str, TensorRange]
    details: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))

    def to_json(self) -> str:
        """The text of ``ranges.json``; floats are written so that they read back bit for bit."""
        tensors = {name: {"min": r.min, "max": r.max, "method": r.method} for name, r in self.tensors.items()}
        document = {
            "method": self.method,
            "scheme": self.scheme,
            "samples": self.samples,
            "fingerprint": {"data": self.data_fingerprint, "model": self.model_fingerprint},
            "versions": dict(self.versions),
            "details": dict(self.details),
            "tensors": tensors,
        }
        return json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Ranges:
        """Read ``to_json``'s text back.

        A tensor may also be given as ``{"amax": a}`` alone, meaning ``[-a, a]``. Raises ``InputError`` naming the
        first place that is not as described.
        """
        try:
            document = json.loads(text, object_pairs_hook=_no_duplicates)
        except ValueError as problem:  # JSONDecodeError is one
            raise InputError(f"ranges: expected JSON, found {problem}") from problem
        top = _mapping(document, "the document")
        fingerprint = _mapping(top.get("fingerprint", {}), "fingerprint")
        tensors = _mapping(top.get("tensors"), "tensors")
        samples = top.get("samples", 0)
        if isinstance(samples, bool) or not isinstance(samples, int) or samples < 0:
            raise InputError(f"ranges: samples: expected a count, found {samples!r}")
        method = _text(top.get("method", ""), "method")
        return cls(
            method=method,
            scheme=_text(top.get("scheme", ""), "scheme"),
            samples=samples,
            data_fingerprint=_text(fingerprint.get("data", ""), "fingerprint.data"),
            model_fingerprint=_text(fingerprint.get("model", ""), "fingerprint.model"),
            versions={k: _text(v, f"versions.{k}") for k, v in _mapping(top.get("versions", {}), "versions").items()},
            tensors={name: _tensor(name, entry, method) for name, entry in tensors.items()},
            details=_mapping(top.get("details", {}), "details"),
        )


def _tensor(name: str, entry: object, default_method: str) -> TensorRange:
    place = f"tensors[{name!r}]"
    fields = _mapping(entry, place)
    if "min" in fields and "max" in fields:
        low, high = _number(fields["min"], f"{place}.min"), _number(fields["max"], f"{place}.max")
    elif "amax" in fields:
        high = _number(fields["amax"], f"{place}.amax")
        low = -high
    else:
        raise InputError(f"ranges: {place}: expected min and max, or amax; found {', '.join(fields) or 'nothing'}")
    if low > high:
        raise InputError(f"ranges: {place}: expected min <= max, found [{low}, {high}]")
    return TensorRange(low, high, _text(fields.get("method", default_method), f"{place}.method"))


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice!r} twice")
    return found


def _mapping(value: object, place: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise InputError(f"ranges: {place}: expected an object, found {type(value).__name__}")
    return value


def _text(value: object, place: str) -> str:
    if not isinstance(value, str):
        raise InputError(f"ranges: {place}: expected text, found {value!r}")
    return value


def _number(value: object, place: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise InputError(f"ranges: {place}: expected a finite number, found {value!r}")
    return float(value)
