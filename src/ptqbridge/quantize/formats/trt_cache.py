"""TensorRT's INT8 calibration cache: a header line, then ``tensor name: scale`` with the scale's bits in hex.

The value is the IEEE-754 pattern of the float32 scale = amax / 127, most significant digit first, without leading
zeros. Sources: ``readScalesFromCalibrationCache`` in NVIDIA/TensorRT samples/common/sampleEngines.cpp (v8.6.1),
``ReadDynamicRange`` in microsoft/onnxruntime core/providers/tensorrt, and files that TensorRT's users show
(NVIDIA/TensorRT issues 2036, 2958).
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from ptqbridge.errors import InputError, OptionError

ALGORITHMS = {
    "EntropyCalibration2": "entropy2",
    "EntropyCalibration": "entropy",
    "MinMaxCalibration": "max",
    "LegacyCalibration": "legacy",
}
"""The last word of the header, which names the calibrator class that may read the file, and our word for its method."""

_HEADER = re.compile(r"TRT-([0-9]{4,6})-(\w+)")
_HEX = re.compile("[0-9a-fA-F]{1,8}")
_INFINITY = 0x7F800000
_SIGN = 0x80000000
_SMALLEST_NORMAL = 0x00800000


@dataclass(frozen=True)
class TrtCache:
    """A cache as it stands in the file: ``number`` (8601 is 8.6.1), ``algorithm`` (header word), ``bits`` by tensor.

    ``bits`` keeps the file's order. ``notes`` are one-line remarks on how it was written.
    """

    number: int
    algorithm: str
    bits: Mapping[str, int]
    notes: tuple[str, ...] = ()

    @property
    def header(self) -> str:
        """The first line."""
        return f"TRT-{self.number}-{self.algorithm}"

    def text(self) -> str:
        """The file as TensorRT writes it: LF, lower case, no leading zeros."""
        return f"{self.header}\n" + "".join(f"{name}: {bits:x}\n" for name, bits in self.bits.items())

    def amax(self) -> dict[str, float]:
        """127 * scale per tensor, exact: a float32 times 127 fits a double."""
        return {name: 127.0 * float_of(bits) for name, bits in self.bits.items()}


def parse_cache(data: bytes) -> TrtCache:
    """Read a cache.

    Accepted and noted: CRLF line ends, scales of 0 and below float32's normal range. trtexec reads eight characters
    behind ``: `` and takes whatever digits it finds there, so every other deviation is an error here.
    Raises InputError, one line beginning with the line's number.
    """
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        where = data.count(b"\n", 0, error.start) + 1
        raise InputError(f"line {where}: expected UTF-8 text, found the byte 0x{data[error.start]:02x}") from None
    if not text.strip():
        raise InputError("line 1: expected a header such as TRT-8601-EntropyCalibration2, found nothing")
    whole = text.endswith("\n")
    lines = text.split("\n")[: -1 if whole else None]
    windows = any(line.endswith("\r") for line in lines)
    lines = [line.removesuffix("\r") for line in lines]
    number, algorithm = _header(lines[0], cut=not whole and len(lines) == 1)
    found: dict[str, int] = {}
    place: dict[str, int] = {}
    while len(lines) > 1 and not lines[-1]:
        lines.pop()  # blank lines at the end
    for index, line in enumerate(lines[1:], 2):
        name, value = _entry(line, index, cut=not whole and index == len(lines))
        if name in found:
            raise InputError(f"line {index}: expected each tensor once, found {name!r} also in line {place[name]}")
        found[name], place[name] = value, index
    if not found:
        raise InputError("line 2: expected 'tensor name: hex', found nothing after the header (cut off?)")
    return TrtCache(number, algorithm, found, tuple(_notes(found, windows=windows)))


def _header(line: str, *, cut: bool) -> tuple[int, str]:
    found = _HEADER.fullmatch(line)
    if not found:
        end = " (cut off?)" if cut and line.startswith("TRT-") else ""
        raise InputError(f"line 1: expected a header such as TRT-8601-EntropyCalibration2, found {_short(line)}{end}")
    if found[2] not in ALGORITHMS:
        end = " (cut off?)" if cut else ""
        raise InputError(f"line 1: expected one of {', '.join(ALGORITHMS)}, found {found[2]!r}{end}")
    return int(found[1]), found[2]


def _entry(line: str, index: int, *, cut: bool) -> tuple[str, int]:
    name, colon, value = line.rpartition(":")
    end = " (the file is cut off)" if cut else ""
    if not colon:
        raise InputError(f"line {index}: expected 'tensor name: hex', found {_short(line)}{end}")
    if not value.startswith(" ") and not (cut and not value):
        raise InputError(
            f"line {index}: expected a space after the last colon, found {_short(line)}",
            hint="trtexec would skip the first digit and read another number",
        )
    digits = value[1:]
    if not _HEX.fullmatch(digits):
        raise InputError(f"line {index}: expected 1 to 8 hex digits after ': ', found {_short(digits)}{end}")
    if cut and len(digits) < 8:
        raise InputError(f"line {index}: expected 8 hex digits and a line end, found {digits!r}{end}")
    bits = int(digits, 16)
    if bits & _SIGN:
        raise InputError(f"line {index}: expected a scale of 0 or more, found {digits!r}, whose sign bit is set")
    if bits >= _INFINITY:
        kind = "infinity" if bits == _INFINITY else "NaN"
        raise InputError(f"line {index}: expected a finite scale, found {digits!r}, which is {kind}")
    return name, bits


def _notes(bits: Mapping[str, int], *, windows: bool) -> list[str]:
    notes = ["the lines end in CR LF, as Windows writes them; TensorRT writes LF"] if windows else []
    zero = [name for name, value in bits.items() if value == 0]
    if zero:
        notes.append(f"{_count(zero)} of scale 0, the first {zero[0]!r}: 0 in all samples")
    tiny = [name for name, value in bits.items() if 0 < value < _SMALLEST_NORMAL]
    if tiny:
        notes.append(f"{_count(tiny)} of a scale below float32's normal range, the first {tiny[0]!r}: damaged?")
    return notes


def _count(names: list[str]) -> str:
    return f"{len(names)} tensor{'s' * (len(names) > 1)}"


def _short(text: str) -> str:
    return repr(text if len(text) <= 60 else text[:57] + "...")


def float_of(bits: int) -> float:
    """The float32 with this bit pattern."""
    value: float = struct.unpack(">f", struct.pack(">I", bits))[0]
    return value


def bits_of(value: float) -> int:
    """The bit pattern of the float32 nearest to ``value``. Raises OverflowError beyond float32's range."""
    bits: int = struct.unpack(">I", struct.pack(">f", value))[0]
    return bits


def to_float32(value: float) -> float:
    """The nearest float32; its largest number stands for all beyond it."""
    try:
        return float_of(bits_of(value))
    except OverflowError:
        return math.copysign(float_of(_INFINITY - 1), value)


def scale_bits(amax: float) -> int:
    """The bits of the scale for a range [-amax, amax]; amax 0 or more, at most float32's largest number.

    127 * scale is then within one float32 ulp of a float32 ``amax`` (of at least 127 * 2**-126), and exactly it where
    ``amax`` came from ``TrtCache.amax``.
    """
    return bits_of(amax / 127.0)


def version_number(version: str) -> int:
    """The number in the header: ``8.6.1`` is 8601, from TensorRT 10 on ``10.13.3`` is 101303.

    Also takes the number itself. Raises OptionError for no version, or one whose TensorRT has no caches.
    """
    if re.fullmatch("[0-9]{4,6}", version):
        number = int(version)
    else:
        found = re.fullmatch(r"([0-9]{1,2})\.([0-9]{1,2})(?:\.([0-9]{1,2}))?(?:\.[0-9]+)?", version)
        if not found:
            raise OptionError(f"--trtVersion: expected a version such as 8.6.1 or 10.13.3, found {version!r}")
        major, minor, patch = int(found[1]), int(found[2]), int(found[3] or 0)
        if major < 10 and minor > 9:
            raise OptionError(f"--trtVersion: expected a version such as 8.6.1 or 10.13.3, found {version!r}")
        number = major * 10000 + minor * 100 + patch if major >= 10 else major * 1000 + minor * 100 + patch
    if number >= 110000:
        raise OptionError(
            f"--trtVersion={version}: TensorRT 11 has no calibrators and reads no cache",
            hint="write ranges.json; for TensorRT 11 they go into the model as Q/DQ",
        )
    if number < 4000:
        raise OptionError(f"--trtVersion={version}: expected TensorRT 4 or newer")
    return number


def version_text(number: int) -> str:
    """The version that a header's number stands for: 8601 is 8.6.1."""
    step = 10000 if number >= 10000 else 1000
    return f"{number // step}.{number % step // 100}.{number % 100}"
