"""Writes ranges in any of the known forms, and says what the form cannot hold."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from ptqbridge.errors import InputError, OptionError
from ptqbridge.files import write_atomic
from ptqbridge.quantize.formats import ort_json, ort_table
from ptqbridge.quantize.formats.forms import SUFFIXES, Form, Loss
from ptqbridge.quantize.formats.reading import HEADER
from ptqbridge.quantize.formats.trt_cache import (
    ALGORITHMS,
    TrtCache,
    float_of,
    scale_bits,
    to_float32,
    version_number,
)
from ptqbridge.quantize.ranges import Ranges, TensorRange

DEFAULT_VERSION = "8.6.1"
_CALIBRATORS = {
    "entropy2": "EntropyCalibration2",
    "entropy": "EntropyCalibration",
    "minmax": "MinMaxCalibration",
    "max": "MinMaxCalibration",
    "legacy": "LegacyCalibration",
}
_LINE_BREAKS = re.compile("[\n\r]")


@dataclass(frozen=True)
class Written:
    """A file's text in a form. ``losses`` are what it cannot hold, ``notes`` one-line remarks."""

    form: Form
    text: str | bytes
    losses: tuple[Loss, ...] = ()
    notes: tuple[str, ...] = ()


def form_of(path: str) -> Form | None:
    """The form that the ending of a file name asks for, None for any other ending."""
    return next((form for suffix, form in SUFFIXES.items() if path.lower().endswith(suffix)), None)


def write_ranges(ranges: Ranges, path: str, form: Form, *, version: str = "", calibrator: str = "") -> Written:
    """Render ``ranges`` and write them to ``path``, whole or not at all. Raises as ``render``."""
    written = render(ranges, form, version=version, calibrator=calibrator)
    write_atomic(path, written.text)
    return written


def render(ranges: Ranges, form: Form, *, version: str = "", calibrator: str = "") -> Written:
    """The text of ``ranges`` in ``form``.

    For a TensorRT cache, ``version`` (8.6.1) and ``calibrator`` (entropy2, entropy, minmax, legacy) say what its header
    shall be; "" keeps that of the cache that the ranges were read from, else 8.6.1 and what fits their method.
    Raises OptionError for a version without caches and InputError for a range that float32 cannot hold.
    """
    if form is Form.RANGES:
        return Written(form, ranges.to_json())
    if form is Form.TRT_CACHE:
        return _cache(ranges, version, calibrator)
    if form in (Form.ORT_FLAT, Form.ORT_TEXT):
        return _table(ranges, form)
    text, losses = ort_json.to_json(ranges, form)
    kept = {"scheme"} | ({"method"} if form is Form.ORT_CACHE else set())
    return Written(form, text, (*losses, *_provenance(ranges, kept)))


def _table(ranges: Ranges, form: Form) -> Written:
    plain = str.__len__ if form is Form.ORT_FLAT else ort_table.is_plain
    writable = {name: r for name, r in ranges.tensors.items() if plain(name) and _is_writable(name)}
    losses = _left_out(ranges, writable) + _asymmetry(writable)
    return Written(form, ort_table.render_table(writable, form), (*losses, *_provenance(ranges, {"scheme"})))


def _left_out(ranges: Ranges, writable: Mapping[str, TensorRange]) -> list[Loss]:
    dropped = [name for name in ranges.tensors if name not in writable]
    if not dropped:
        return []
    text = f"names: {len(dropped)} tensors are left out, a line cannot hold their names (first {dropped[0]!r})"
    return [Loss("names", text, len(dropped))]


def _cache(ranges: Ranges, version: str, calibrator: str) -> Written:
    losses: list[Loss] = []
    notes: list[str] = []
    number, algorithm = _header(ranges, version, calibrator, losses, notes)
    writable = {name: r for name, r in ranges.tensors.items() if _is_writable(name)}
    losses += _left_out(ranges, writable)
    bits = {name: _bits(name, r) for name, r in writable.items()}
    losses += _numbers(writable, bits)
    kept = {"scheme"} | ({"method"} if _CALIBRATORS.get(ranges.method) == algorithm else set())
    losses += _provenance(ranges, kept)
    return Written(Form.TRT_CACHE, TrtCache(number, algorithm, bits).text(), tuple(losses), tuple(notes))


def _header(ranges: Ranges, version: str, calibrator: str, losses: list[Loss], notes: list[str]) -> tuple[int, str]:
    """Number and algorithm word of the header."""
    origin = str(ranges.details.get(HEADER, ""))
    _, number, algorithm = origin.split("-") if origin.count("-") == 2 else ("", "", "")
    if algorithm not in ALGORITHMS:
        number = algorithm = ""
    if calibrator:
        if calibrator not in _CALIBRATORS:
            raise OptionError(f"--trtCalibrator: expected one of {', '.join(_CALIBRATORS)}, found {calibrator!r}")
        algorithm = _CALIBRATORS[calibrator]
    elif not algorithm:
        algorithm = _CALIBRATORS.get(ranges.method, "EntropyCalibration2")
        if ranges.method not in _CALIBRATORS:
            asked = ranges.method or "an unknown method"
            text = (
                f"method: the header says {algorithm}, the one that trtexec reads, since there is no word for {asked};"
            )
            losses.append(Loss("method_word", f"{text} TensorRT takes the numbers as they are"))
    if algorithm != "EntropyCalibration2":
        notes.append(
            f"only a calibrator of the kind {algorithm} reads this cache; trtexec --calib has EntropyCalibration2 "
            "(--trtCalibrator=entropy2 writes that)"
        )
    return version_number(version or number or DEFAULT_VERSION), algorithm


def _is_writable(name: str) -> bool:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return not _LINE_BREAKS.search(name)


def _bits(name: str, found: TensorRange) -> int:
    try:
        return scale_bits(found.amax)
    except OverflowError:
        raise InputError(f"tensor {name!r}: the range up to {found.amax:g} is beyond float32") from None


def _numbers(tensors: Mapping[str, TensorRange], bits: Mapping[str, int]) -> list[Loss]:
    """What happens to the numbers themselves."""
    losses = _asymmetry(tensors)
    lost = [name for name, r in tensors.items() if r.amax and not bits[name]]
    if lost:
        text = f"underflow: {len(lost)} ranges are too small for a float32 scale and become 0 (first {lost[0]!r})"
        losses.append(Loss("underflow", text, len(lost)))
    moved = sum(to_float32(127.0 * float_of(bits[name])) != to_float32(r.amax) for name, r in tensors.items()) - len(
        lost
    )
    if moved:
        text = f"rounding: {moved} ranges move by one float32 step, since amax / 127 is kept as float32"
        losses.append(Loss("rounding", text, moved))
    return losses


def _asymmetry(tensors: Mapping[str, TensorRange]) -> list[Loss]:
    uneven = [name for name, r in tensors.items() if r.min != -r.max]
    if not uneven:
        return []
    name = max(uneven, key=lambda name: abs(tensors[name].min + tensors[name].max))
    found = tensors[name]
    text = f"asymmetry: {len(uneven)} of {len(tensors)} ranges become symmetric (most: {name!r}, "
    text += f"[{found.min:.6g}, {found.max:.6g}] is now ±{found.amax:.6g})"
    return [Loss("asymmetry", text, len(uneven))]


def _provenance(ranges: Ranges, kept: set[str]) -> list[Loss]:
    """Where the ranges come from, which no other form than our own holds."""
    methods = {r.method for r in ranges.tensors.values()} - {ranges.method, ""}
    parts = {
        "method": f"method {ranges.method}" if ranges.method and HEADER not in ranges.details else "",
        "methods": f"the methods of single tensors ({', '.join(sorted(methods))})" if methods else "",
        "samples": f"{ranges.samples} samples" if ranges.samples else "",
        "data": "fingerprint of the data" if ranges.data_fingerprint else "",
        "model": "fingerprint of the model" if ranges.model_fingerprint else "",
        "versions": "versions" if ranges.versions and HEADER not in ranges.details else "",
        "details": "details" if set(ranges.details) - {HEADER, "smooth_quant"} else "",
    }
    gone = [text for key, text in parts.items() if text and key not in kept]
    return [Loss("provenance", f"origin: {', '.join(gone)} cannot be kept")] if gone else []


def writable_forms() -> str:
    """The endings that ``form_of`` knows, for messages."""
    return ", ".join(f"{suffix} ({form})" for suffix, form in SUFFIXES.items())


def require_form(path: str) -> Form:
    """``form_of``, for a command that writes ranges and nothing else. Raises OptionError for another ending."""
    form = form_of(path)
    if form is None:
        raise OptionError(f"{os.path.basename(path) or path!r}: expected one of the endings {writable_forms()}")
    return form
