"""What a key of a vendor's YAML may hold, and how the vendor's tools read a list that is written as one text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SECTIONS = ("model_parameters", "input_parameters", "calibration_parameters", "compiler_parameters", "custom_op")
RUNTIME_TYPES = ("nv12", "yuv444", "rgb", "bgr", "gray", "featuremap")
HIDDEN_TYPES = ("yuv444_128", "yuv_bt601_full", "yuv_bt601_video")
"""Words that both tools parse but do not document."""
TRAIN_TYPES = ("rgb", "bgr", "gray", "yuv444", "featuremap")
LAYOUTS = ("NCHW", "NHWC")
REMOVABLE = ("Quantize", "Transpose", "Dequantize", "Cast", "Reshape", "Softmax")
TRAIN_TO_RUNTIME: Mapping[str, tuple[str, ...]] = {
    "rgb": ("rgb", "bgr", "nv12", "yuv444", "yuv444_128"),
    "bgr": ("bgr", "rgb", "nv12", "yuv444", "yuv444_128"),
    "yuv444": ("yuv444", "nv12", "yuv444_128"),
    "gray": ("gray",),
    "featuremap": ("featuremap",),
}
"""The runtime types that an input trained on the key can have."""


@dataclass(frozen=True)
class Key:
    """One key: ``kind`` is text, list (``;``), bool, int, number, numbers (``;`` list of numbers), map or any.

    ``allowed`` are the words a text or each entry of a list may be (empty: any), ``low`` and ``high`` bound a number,
    ``zero`` lets 0 stand below ``low``. ``since`` is the first tool generation with the key, ``deprecated`` says what
    became of one that is still read. ``quoted`` refuses a number where the tool wants YAML text.
    """

    kind: str
    allowed: tuple[str, ...] = ()
    default: Any = None
    low: float | None = None
    high: float | None = None
    zero: bool = False
    since: str = ""
    deprecated: str = ""
    required: bool = False
    quoted: bool = False

    def expected(self) -> str:
        """What may stand there, for messages."""
        if self.kind == "bool":
            return "true or false (a YAML boolean, without quotes)"
        if self.allowed:
            words = ", ".join(word or "'' (nothing)" for word in self.allowed)
            return f"one of {words}" if self.kind == "text" else f"entries joined by ';', each one of {words}"
        if self.kind in ("int", "number"):
            return ("a whole number" if self.kind == "int" else "a number") + self._bounds()
        return {
            "text": "a text",
            "list": "one text with entries joined by ';'",
            "numbers": "one text of numbers, entries of several inputs joined by ';'",
            "map": "a mapping",
        }.get(self.kind, "any value")

    def _bounds(self) -> str:
        if self.low is None:
            return ""
        start = "0 or " if self.zero else ""
        return (
            f", {start}{self.low:g} or more" if self.high is None else f", {start}{self.low:.10g} to {self.high:.10g}"
        )


Table = Mapping[str, Mapping[str, Key]]


def entries(value: Any) -> list[str | None]:
    """A ``;`` list as the tools read it: quotes and one trailing ``;`` go, blank entries and ``None`` are no value."""
    text = "" if value is None else str(value).replace('"', "").replace("'", "").strip()
    if text.endswith(";"):
        text = text[:-1]
    if not text.strip() or text.strip() == "None":
        return []
    parts = (part.strip() for part in text.split(";"))
    return [None if part in ("", "None") else part for part in parts]


def floats(entry: str) -> tuple[float, ...]:
    """The numbers of one entry, separated by blanks or commas. Raises ValueError."""
    return tuple(float(word) for word in entry.replace(",", " ").split())


def dims(entry: str) -> tuple[int, ...]:
    """``1x3x224x224``. Raises ValueError."""
    return tuple(int(word) for word in entry.lower().split("x"))
