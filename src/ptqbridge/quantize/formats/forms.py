"""The kinds of file that hold ranges, and what a change from one to another costs."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Form(str, Enum):
    """A kind of file. The value is the word shown to people."""

    RANGES = "ranges.json"
    TRT_CACHE = "TensorRT cache"
    ORT_CACHE = "ONNX Runtime calibration cache"
    ORT_TABLE = "ONNX Runtime calibration table"
    ORT_FLAT = "ONNX Runtime TensorRT table (FlatBuffers)"
    ORT_TEXT = "ONNX Runtime TensorRT table (text)"

    def __str__(self) -> str:
        return self.value


SUFFIXES = {
    ".ort.json": Form.ORT_CACHE,
    ".table.json": Form.ORT_TABLE,
    ".json": Form.RANGES,
    ".flatbuffers": Form.ORT_FLAT,
    ".ort.cache": Form.ORT_TEXT,
    ".cache": Form.TRT_CACHE,
    ".calib": Form.TRT_CACHE,
}
"""The form that a file name's ending asks for; the first that fits counts."""


@dataclass(frozen=True)
class Loss:
    """Something that a form cannot hold: ``what`` is a short stable word, ``count`` how many tensors, 0 for the whole.

    ``text`` says it in one line.
    """

    what: str
    text: str
    count: int = 0

    def to_dict(self) -> dict[str, object]:
        """JSON form."""
        return {"what": self.what, "count": self.count, "text": self.text}
