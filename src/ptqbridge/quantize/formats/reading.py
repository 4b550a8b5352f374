"""Reads ranges from any of the known files; which one it is shows in its content, never in its name."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import Any

from ptqbridge.errors import InputError
from ptqbridge.quantize.formats import ort_json, ort_table
from ptqbridge.quantize.formats.forms import Form, Loss
from ptqbridge.quantize.formats.trt_cache import ALGORITHMS, TrtCache, parse_cache, version_text
from ptqbridge.quantize.ranges import Ranges, TensorRange

HEADER = "cache_header"
"""Key in ``Ranges.details`` of the header line of the TensorRT cache that the ranges came from."""
_MOST = 1 << 30


@dataclass(frozen=True)
class Loaded:
    """What a file held. ``losses`` are what ranges cannot hold of it, ``notes`` one-line remarks on the file."""

    path: str
    form: Form
    ranges: Ranges
    notes: tuple[str, ...] = ()
    losses: tuple[Loss, ...] = ()


def read_ranges(path: str | os.PathLike[str]) -> Loaded:
    """Read a file of ranges. Raises InputError, one line naming the file and what is wrong where."""
    shown = os.fspath(path)
    data = _bytes(shown)
    try:
        if data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith((b"{", b"[")):
            return _from_json(shown, data)
        if b"\0" in data[:4096] and not data.startswith(b"TRT-"):
            if ort_table.looks_flat(data):
                return Loaded(shown, Form.ORT_FLAT, ort_table.from_flat(data), (ort_table.NOTE,))
            raise InputError(
                "expected ranges.json, a TensorRT cache or a calibration file of ONNX Runtime, found a binary file"
            )
        if ort_table.looks_text(text := data.decode("utf-8", "replace")) and "\ufffd" not in text:
            return Loaded(shown, Form.ORT_TEXT, ort_table.from_text(text), (ort_table.NOTE,))
        cache = parse_cache(data)
    except InputError as error:
        raise InputError(f"{shown}: {error.message}", hint=error.hint) from None
    return Loaded(shown, Form.TRT_CACHE, ranges_of(cache), cache.notes)


def ranges_of(cache: TrtCache) -> Ranges:
    """The symmetric ranges that a cache's scales stand for."""
    method = ALGORITHMS[cache.algorithm]
    tensors = {name: TensorRange(-amax if amax else 0.0, amax, method) for name, amax in cache.amax().items()}
    versions = {"tensorrt": version_text(cache.number)}
    return Ranges(method, "tensorrt", 0, "", "", versions, tensors, {HEADER: cache.header})


def _from_json(shown: str, data: bytes) -> Loaded:
    try:
        text = data.decode("utf-8-sig")
        document: Any = json.loads(text, object_pairs_hook=_no_duplicates)
    except UnicodeDecodeError as error:
        raise InputError(f"expected UTF-8 text, found the byte 0x{data[error.start]:02x}") from None
    except ValueError as error:
        end = " (cut off?)" if not data.rstrip().endswith((b"}", b"]")) else ""
        raise InputError(f"expected JSON, found {error}{end}") from None
    except RecursionError:
        raise InputError("expected JSON of ranges, found brackets nested too deep") from None
    form = ort_json.form_of_json(document)
    if form is not None:
        ranges, losses = ort_json.from_json(document)
        return Loaded(shown, form, ranges, losses=tuple(losses))
    if isinstance(document, dict) and "tensors" in document:
        return Loaded(shown, Form.RANGES, Ranges.from_json(text))
    raise InputError(
        "expected ranges.json, an ONNX Runtime calibration cache or a table {name: [min, max]}, found other JSON"
    )


def _no_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names: set[str] = set()
        twice = next(name for name, _ in pairs if name in names or names.add(name))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {twice!r} twice")
    return found


def _bytes(shown: str) -> bytes:
    if os.path.isdir(shown):
        raise InputError(
            f"{shown}: expected a file of ranges, found a folder",
            hint="calibration data holds samples, not ranges: calibrate --calibData=FOLDER finds them",
        )
    try:
        if os.path.getsize(shown) > _MOST:
            raise InputError(f"{shown}: expected a file of ranges, found one of {os.path.getsize(shown)} bytes")
        with open(shown, "rb") as file:
            return file.read()
    except OSError as error:
        raise InputError(f"{shown}: cannot be read ({error.strerror or error})") from None
