"""Numbers and dimensions as C++ default streams write them, which is how trtexec's text and JSON look."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable

SIX_DIGITS = "%.6g"
"""The default format of a C++ ostream for floating point: 6 significant digits, no trailing zeros."""


def number(value: float) -> str:
    """``value`` with 6 significant digits: 0.123457, 1e+06, inf."""
    return SIX_DIGITS % value


def json_number(value: float | None) -> str:
    """``value`` with 6 significant digits; ``null`` for None, nan and inf, which JSON cannot hold.

    trtexec writes a bare ``nan`` or ``inf`` there, which no JSON reader takes: the difference is deliberate.
    """
    return "null" if value is None or not math.isfinite(value) else number(value)


def json_string(text: str) -> str:
    """``text`` as a JSON string, escaped (trtexec does not escape names)."""
    return json.dumps(text, ensure_ascii=False)


def dimensions(shape: Iterable[int]) -> str:
    """``2x5``; the empty string for a scalar."""
    return "x".join(str(int(size)) for size in shape)
