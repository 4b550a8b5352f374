"""Splitting and number reading with the meaning of trtexec 8.6.1, minus its silent misreadings.

The splitting rules are those of ``splitToStringVec`` and ``splitNameAndValue`` in NVIDIA/TensorRT
samples/common/sampleUtils.cpp and sampleOptions.cpp, tag v8.6.1.
"""

from __future__ import annotations

import math
import re
import struct

# ASCII throughout: C++ knows neither other scripts' digits nor their blanks.
_INT = re.compile(r"\s*[+-]?[0-9]+", re.ASCII)
_FLOAT = re.compile(
    r"\s*[+-]?(0x([0-9a-f]+\.?[0-9a-f]*|\.[0-9a-f]+)(p[+-]?[0-9]+)?|inf(inity)?|nan(\([0-9a-z_]*\))?"
    r"|([0-9]+\.?[0-9]*|\.[0-9]+)(e[+-]?[0-9]+)?)",
    re.IGNORECASE | re.ASCII,
)
_INT32 = 2**31
_LEAST = {"f": 2.0**-126, "d": 2.0**-1022}
"""The smallest normal number per width (struct's letters); below it ``stof`` and ``stod`` report out of range."""


class GrammarError(ValueError):
    """A value that does not follow its grammar.

    ``difference`` names the row of docs/differences.md when trtexec 8.6.1 would have taken the value.
    """

    def __init__(self, message: str, *, difference: str = "") -> None:
        super().__init__(message)
        self.difference = difference


def split(text: str, separator: str) -> list[str]:
    """Split like trtexec: an empty text gives nothing, one trailing separator is dropped, inner empties stay."""
    if not text:
        return []
    return text.removesuffix(separator).split(separator)


def integer(text: str) -> int:
    """A 32-bit decimal integer; leading blanks and a sign are allowed, as with C++ ``stoi``.

    Raises GrammarError when there are no digits, when it does not fit 32 bits, or when something follows the digits
    (``stoi`` drops such a tail without a word: ``1e3`` would be 1).
    """
    found = _INT.match(text)
    if not found:
        raise GrammarError(f"expected a whole number, found {text!r}")
    word = found.group().strip()
    digits = word.lstrip("+-0")[:11] or "0"  # eleven are too many; int() itself refuses thousands
    value = -int(digits) if word.startswith("-") else int(digits)
    if not -_INT32 <= value < _INT32:
        raise GrammarError(f"expected a number that fits 32 bits, found {text!r}")
    _no_tail(text, found.end(), "a whole number")
    return value


def number(text: str, *, double: bool = False) -> float:
    """A decimal number as C++ ``stof`` (``stod`` when ``double``) reads it: also ``.5``, ``1e2``, ``0x10``, ``inf``.

    The value keeps the precision it was written with; only the range is that of 32 bits, as with ``stof``. Raises
    GrammarError as ``integer`` does, and for ``nan``, which no option can mean.
    """
    found = _FLOAT.match(text)
    if not found:
        raise GrammarError(f"expected a number, found {text!r}")
    digits = found.group().strip().lower()
    width = "d" if double else "f"
    value = _float(digits)
    too_small = abs(value) < _LEAST[width] and _is_not_zero(digits)
    if "inf" not in digits and (too_small or _overflows(value, width)):
        raise GrammarError(f"expected a number within floating-point range, found {text!r}")
    _no_tail(text, found.end(), "a number")
    if math.isnan(value):
        raise GrammarError(f"expected a number, found {text!r}", difference="nan")
    return value


def fraction(text: str) -> float:
    """A number, or one divided by another: ``1/255``. Raises GrammarError as ``number`` does, and for ``/0``."""
    top, slash, bottom = text.partition("/")
    if not slash:
        return number(text)
    divisor = number(bottom)
    if divisor == 0:
        raise GrammarError(f"expected a fraction such as 1/255, found {text!r}")
    return number(top) / divisor


def _float(digits: str) -> float:
    if digits.lstrip("+-").startswith("nan"):
        return math.nan
    try:
        return float.fromhex(digits) if "x" in digits else float(digits)
    except OverflowError:  # only of hexadecimal text
        return math.inf


def _overflows(value: float, width: str) -> bool:
    try:
        return math.isinf(struct.unpack(width, struct.pack(width, value))[0])
    except OverflowError:
        return True


def _is_not_zero(digits: str) -> bool:
    """Whether the number has a digit other than 0 before its exponent: too small is an error, zero is not."""
    mantissa = digits.partition("x")[2].partition("p")[0] if "x" in digits else digits.partition("e")[0]
    return bool(mantissa.strip("+-.0"))


def _no_tail(text: str, end: int, wanted: str) -> None:
    if text[end:].strip():
        raise GrammarError(
            f"expected {wanted}, found {text!r} ({text[end:].strip()!r} is left over)", difference="number-tail"
        )


def name_and_value(text: str) -> tuple[str, str]:
    """Split ``name:value`` at the last colon, or behind a name in single quotes (``'a:b':value``).

    Without a colon both are the whole text, as in trtexec. Raises GrammarError for an empty text or for other than
    two quotes.
    """
    quoted = split(text, "'")
    if len(quoted) == 1:
        parts = split(text, ":")
        return ":".join(parts[:-1]) if len(parts) > 1 else parts[0], parts[-1]
    if len(quoted) != 3 or not quoted[2]:
        raise GrammarError(f"expected one name in two single quotes followed by ':', found {text!r}")
    return quoted[0] + quoted[1], quoted[2][1:]


def dimensions(text: str) -> tuple[int, ...]:
    """``1x3x224x224`` as ints. An empty text is rank 0 (reached through ``'name':`` only)."""
    return tuple(integer(part) for part in split(text, "x"))
