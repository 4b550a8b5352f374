"""Splitting and number reading with the meaning of trtexec 8.6.1, minus its silent misreadings.

The splitting rules are those of ``splitToStringVec`` and ``splitNameAndValue`` in NVIDIA/TensorRT
samples/common/sampleUtils.cpp and sampleOptions.cpp, tag v8.6.1.
"""

from __future__ import annotations

import math
import re

_INT = re.compile(r"\s*[+-]?\d+")
_FLOAT = re.compile(r"\s*[+-]?(0[xX][0-9a-fA-F]+|inf(inity)?|nan|(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?)", re.IGNORECASE)
_INT32 = 2**31
_FLOAT32_MAX = 3.4028234663852886e38
_FLOAT64_MAX = 1.7976931348623157e308


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
    value = int(found.group())
    if not -_INT32 <= value < _INT32:
        raise GrammarError(f"expected a number that fits 32 bits, found {text!r}")
    _no_tail(text, found.end(), "a whole number")
    return value


def number(text: str, *, double: bool = False) -> float:
    """A decimal number as C++ ``stof`` (``stod`` when ``double``) reads it: also ``.5``, ``1e2``, ``0x10``, ``inf``.

    Raises GrammarError as ``integer`` does, and for ``nan``, which no option can mean.
    """
    found = _FLOAT.match(text)
    if not found:
        raise GrammarError(f"expected a number, found {text!r}")
    digits = found.group().strip()
    value = float.fromhex(digits) if "x" in digits.lower() else float(digits)
    limit = _FLOAT64_MAX if double else _FLOAT32_MAX
    if abs(value) > limit and "inf" not in digits.lower():
        raise GrammarError(f"expected a number within floating-point range, found {text!r}")
    _no_tail(text, found.end(), "a number")
    if math.isnan(value):
        raise GrammarError(f"expected a number, found {text!r}", difference="nan")
    return value


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
