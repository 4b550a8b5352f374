"""The log of hb_compile, from its console or its file, as a record; what of it means success; its progress.

Formats: published logs of hb_compile 3.0 and 3.3, and Horizon's OE-Skills 0.2.0 for 3.5 (``Successful`` became
``Successfully``, the last line got a period).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ptqbridge.backends.horizon.logs5 import Entry, entries

_VERSION = re.compile(r"(hb_compile|hbdk|hmct) version *:? *(\d[\w.]*)")
_ERROR = re.compile(r"\*\*\* ERROR-OCCUR-DURING \{?([\w.-]+)\}? \*\*\*[, ]*(?:error message: ?)?(.*)", re.DOTALL)
_SAMPLES = re.compile(r"num of calibration data: (\d+)")
_HBM = re.compile(r"Successful(?:ly)? compile hbm (\S.*)")
_REMOVED = re.compile(r"removed node info is: *(.*)", re.DOTALL)
_SKIPPED = re.compile(r"calibration is set to skip|calibration_type.*skip", re.IGNORECASE)
_DONE = re.compile(r"hb_compile completes running\.?")
_STAGES = {
    "prepare": r"Start to prepare",
    "optimize": r"Start to optimize",
    "calibrate": r"Start to calibrate",
    "precompile": r"Start to precompile",
    "export": r"Start to export model",
    "convert": r"Start to convert model",
    "compile": r"Start to compile model",
    "estimate": r"Successful(?:ly)? compile hbm",
}
TYPES = {"si8": "int8", "si16": "int16", "si32": "int32", "ui8": "uint8", "f16": "float16", "f32": "float32"}


@dataclass(frozen=True)
class Node:
    """One row of the node table; ``on`` is BPU, CPU or NULL (fused into another), ``dtype`` our word for the type."""

    name: str
    kind: str
    on: str
    threshold: float | None
    calibrated_cosine: float | None
    quantized_cosine: float | None
    dtype: str


@dataclass(frozen=True)
class Record:
    """What a log says. ``phases`` are seconds by stage; ``failure`` is the stage and message of an announced one."""

    versions: dict[str, str]
    phases: dict[str, float]
    nodes: tuple[Node, ...]
    samples: int
    skipped: bool
    removed: str
    hbm: str
    warnings: tuple[str, ...]
    errors: tuple[str, ...]
    failure: tuple[str, str] | None
    finished: bool

    @property
    def succeeded(self) -> bool:
        """Whether both marks of success are there."""
        return bool(self.hbm) and self.finished

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def parse_log(text: str) -> Record:
    """Read a log; what is not in it is empty."""
    found = list(entries(text))
    failure = next((_ERROR.search(entry.text) for entry in found if _ERROR.search(entry.text)), None)
    first = next((match for match in map(_HBM.search, (entry.text for entry in found)) if match), None)
    removed = next((match for match in (_REMOVED.search(entry.text) for entry in found) if match), None)
    counts = [int(match[1]) for match in (_SAMPLES.search(entry.text) for entry in found) if match]
    return Record(
        versions={m[1]: m[2] for entry in found if (m := _VERSION.search(entry.text))},
        phases=_phases(found),
        nodes=tuple(node for entry in found for node in _table(entry.text)),
        samples=max(counts, default=0),
        skipped=any(_SKIPPED.search(entry.text) for entry in found),
        removed=" ".join(removed[1].split()) if removed else "",
        hbm=first[1].strip() if first else "",
        warnings=tuple(entry.text for entry in found if entry.level == "WARNING"),
        errors=tuple(entry.text for entry in found if entry.level in ("ERROR", "CRITICAL")),
        failure=(failure[1], " ".join(failure[2].split())) if failure else None,
        finished=any(_DONE.search(entry.text) for entry in found),
    )


def _phases(found: list[Entry]) -> dict[str, float]:
    """Seconds from the start of each stage to that of the next; the last lasts to the end of the log."""
    starts = [(name, entry.at) for entry in found for name, mark in _STAGES.items() if re.search(mark, entry.text)]
    ends = [at for _, at in starts[1:]] + [found[-1].at if found else 0.0]
    return {name: round(end - at, 3) for (name, at), end in zip(starts, ends, strict=True)} if starts else {}


def _table(text: str) -> list[Node]:
    """The rows of the boxed node table: cells between ``|``, after a head that begins with Node."""
    rows = [[cell.strip() for cell in line.strip("| \r").split("|")] for line in text.splitlines() if "|" in line]
    heads = [index for index, row in enumerate(rows) if row[0] == "Node" and "ON" in row]
    if not heads:
        return []
    head = rows[heads[0]]
    made = []
    for row in rows[heads[0] + 1 :]:
        if len(row) == len(head):
            cells = dict(zip(head, row, strict=True))
            dtype = cells.get("Output Data Type", "")
            made.append(
                Node(
                    cells["Node"],
                    cells.get("NodeType", ""),
                    cells.get("ON", ""),
                    _number(cells.get("Threshold", "")),
                    _number(cells.get("Calibrated Cosine", "")),
                    _number(cells.get("Quantized Cosine", "")),
                    TYPES.get(dtype, dtype),
                )
            )
    return made


def _number(cell: str) -> float | None:
    try:
        value = float(cell)
    except ValueError:
        return None
    return value if math.isfinite(value) else math.nan


class Progress:
    """Turns log lines into stages said once, and samples read into (done, total)."""

    def __init__(self, say: Callable[[str], None], progress: Callable[[int, int], None] | None, total: int) -> None:
        self.say, self.progress, self.total = say, progress, total
        self.stage, self.read = "", 0

    def hear(self, line: str) -> None:
        """One line of the console."""
        if "Read raw file:" in line:
            self.read += 1
            if self.progress and self.total:
                self.progress(min(self.read, self.total), self.total)
            return
        for name, mark in _STAGES.items():
            if name != self.stage and re.search(mark, line):
                self.stage = name
                self.say(f"hb_compile: {name}")
