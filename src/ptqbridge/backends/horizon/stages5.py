"""Where a running hb_mapper is, told from its output line by line."""

from __future__ import annotations

import re
from dataclasses import dataclass

_COMPILER_BAR = re.compile(r"\[[=\- ]{50}\]\s+(\d+)%")
_CALIBRATION_BAR = re.compile(r"calibration in progress: +\d+%\|.*?\| (\d+)/(\d+) \[")
_STARTS = {
    "Start to prepare the onnx model": "prepare",
    "Start to optimize the onnx model": "optimize",
    "Start to calibrate the model": "calibrate",
    "Start to quantize the model": "quantize",
    "Start to compile the model": "compile",
    "start convert to": "package",
}
WEIGHTS = {"prepare": 2, "optimize": 5, "calibrate": 35, "quantize": 5, "compile": 50, "package": 3}
"""Percent of a whole build that a stage is taken for: times differ by model, so a bar of all stages is a rough one."""


@dataclass(frozen=True)
class Stage:
    """A stage and how much of it is done: ``done`` of ``total`` (0 when the tool does not say), ``part`` its piece."""

    name: str
    done: int = 0
    total: int = 0
    part: str = ""

    @property
    def percent(self) -> float:
        """How much of the whole build is done, by :data:`WEIGHTS`."""
        before = 0
        for name, weight in WEIGHTS.items():
            if name == self.name:
                return before + (weight * self.done / self.total if self.total else 0.0)
            before += weight
        return 0.0

    @property
    def text(self) -> str:
        """``calibrate 2/3``, ``compile 45% (main_graph_subgraph_0)``."""
        count = f" {self.done}%" if self.name == "compile" and self.total else f" {self.done}/{self.total}"
        return self.name + (count if self.total else "") + (f" ({self.part})" if self.part else "")


class Stages:
    """Fed with lines; ``hear`` answers with the stage when it has changed or moved on, else None."""

    def __init__(self) -> None:
        self.now = Stage("")

    def hear(self, line: str) -> Stage | None:
        """Take in one line without colours."""
        new = self._understand(line)
        if new is None or new == self.now:
            return None
        self.now = new
        return new

    def _understand(self, line: str) -> Stage | None:
        for words, name in _STARTS.items():
            if words in line:
                return Stage(name)
        if "Compile submodel: " in line:
            return Stage("compile", 0, 100, line.rpartition("Compile submodel: ")[2].strip())
        bars = _COMPILER_BAR.findall(line)
        if bars and self.now.name == "compile":
            return Stage("compile", int(bars[-1]), 100, self.now.part)
        counts = _CALIBRATION_BAR.findall(line)
        if counts and self.now.name == "calibrate":
            done, total = counts[-1]
            return Stage("calibrate", int(done), int(total))
        return None
