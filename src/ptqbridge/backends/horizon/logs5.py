"""The log of hb_mapper, from its console or its log file, as a record.

Formats seen with hb_mapper 1.24.3 (hbdk 3.49.15, horizon_nn 1.1.0): on the console ``DATE TIME,ms LEVEL text``, in the
file ``DATE TIME,ms file: F func: F line No: N text``; lines without a date continue the one before them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any

from ptqbridge.toolchains.local import clean

_RECORD = re.compile(
    r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}) (?:(DEBUG|INFO|WARNING|ERROR|CRITICAL) |file: \S+ func: \S+ line No: \d+ )"
)
_FPS = re.compile(r"FPS=(\d+(?:\.\d+)?), latency = (\d+(?:\.\d+)?) (us|ms|s), DDR = (\d+) bytes\s+\(see (\S+)\.html\)")
_ERROR = re.compile(r"\*\*\* ERROR-OCCUR-DURING \{([\w.-]+)\} \*\*\*[, ]*error message: ?(.*)", re.DOTALL)
_VERSION = re.compile(r"(hb_mapper|hbdk|hbdk runtime|horizon_nn) version *:? *(\d[\w.]*)")
_SAMPLES = re.compile(r"There are (\d+) samples in the data set|num of calibration data: (\d+)")
_PARAMETER = re.compile(r"    (\w+): +(.+)")
_TO_US = {"us": 1.0, "ms": 1e3, "s": 1e6}
_COLUMNS = re.compile(r" {2,}")
_RULE = re.compile(r"[=-]{4,}")
_PHASES = {
    "prepare": ("Start to prepare the onnx model", "End to prepare the onnx model"),
    "optimize": ("Start to optimize the onnx model", "End to optimize the onnx model"),
    "calibrate": ("Start to calibrate the model", "End to calibrate the model"),
    "quantize": ("Start to quantize the model", "End to quantize the model"),
    "compile": ("Start to compile the model", "End to compile the model"),
    "package": ("start convert to", "Convert to runtime bin file successfully!"),
}
NODES, OUTPUTS = "The main quantized node information:", "The quantized model output:"
PARAMETERS = "The activation calibration parameters:"
DONE = ("Convert to runtime bin file successfully!", "End Model Convert")
"""What a successful makertbin says last."""
CHECKED = "End model checking"
"""What a successful checker says last."""


@dataclass(frozen=True)
class Entry:
    """One log record: seconds since the epoch, level ("" in a log file), text with its continuation lines."""

    at: float
    level: str
    text: str


@dataclass(frozen=True)
class Node:
    """One row of the node table. ``threshold`` is that of the node's first input; None stands for ``--``."""

    name: str
    processor: str
    subgraph: str = ""
    type: str = ""
    cosine: float | None = None
    threshold: float | None = None
    dtype: str = ""


@dataclass(frozen=True)
class Output:
    """How near one output of the quantized model is to the float model, by the tool's own first sample."""

    name: str
    cosine: float | None = None
    l1: float | None = None
    l2: float | None = None
    chebyshev: float | None = None


@dataclass(frozen=True)
class Estimate:
    """The compiler's static estimate for one BPU subgraph: the CPU's share is not in it."""

    subgraph: str
    fps: float
    latency_us: float
    ddr_bytes: int


@dataclass(frozen=True)
class Record:
    """What a log of hb_mapper says. ``phases`` are seconds; ``method`` is the calibration method that was used.

    ``failure`` is the tool's own (stage, message) when it announces one; ``succeeded`` and ``checked`` say whether
    makertbin's or the checker's marks of success are there, which alone prove nothing.
    """

    versions: Mapping[str, str] = field(default_factory=dict)
    phases: Mapping[str, float] = field(default_factory=dict)
    samples: int | None = None
    method: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    nodes: tuple[Node, ...] = ()
    outputs: tuple[Output, ...] = ()
    estimates: tuple[Estimate, ...] = ()
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    failure: tuple[str, str] | None = None
    succeeded: bool = False
    checked: bool = False

    def to_dict(self) -> dict[str, Any]:
        """JSON form; numbers that JSON has no word for (nan, inf) become text."""
        plain = _plain(asdict(self))
        assert isinstance(plain, dict)
        return plain


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def entries(text: str) -> list[Entry]:
    """The records of a log. A record glued to the end of a progress bar counts; text before the first one does not."""
    text = "\n".join(clean(line) for line in re.split(r"\r\n|\n|\r", text))
    found = list(_RECORD.finditer(text))
    ends = [*(match.start() for match in found[1:]), len(text)]
    return [
        Entry(_seconds(match[1]), match[2] or "", text[match.end() : end].rstrip("\n"))
        for match, end in zip(found, ends, strict=False)
    ]


def _seconds(stamp: str) -> float:
    """The tool's clock; only differences are used, so the time zone does not matter."""
    try:
        return (datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S,%f") - datetime(1970, 1, 1)).total_seconds()
    except ValueError:  # a date that looks right and is none
        return 0.0


def parse_log(text: str) -> Record:
    """Everything the log tells; a log cut off anywhere gives what is there."""
    records = entries(text)
    failure = next((found for entry in records if (found := _ERROR.search(entry.text))), None)
    said = [entry.text for entry in records]
    return Record(
        versions={match[1]: match[2] for line in said if (match := _VERSION.fullmatch(line.strip()))},
        phases=_phases(records),
        samples=_samples(said),
        method=_method(said),
        parameters=_parameters(said),
        nodes=tuple(_node(row) for row in _last_table(said, NODES)),
        outputs=tuple(_output(row) for row in _last_table(said, OUTPUTS)),
        estimates=tuple(estimate for line in said for estimate in estimates(line)),
        warnings=tuple(entry.text for entry in records if entry.level == "WARNING"),
        errors=tuple(entry.text for entry in records if entry.level in ("ERROR", "CRITICAL")),
        failure=(failure[1], failure[2].strip()) if failure else None,
        succeeded=all(any(line.startswith(mark) for line in said) for mark in DONE),
        checked=any(line.startswith(CHECKED) for line in said),
    )


def estimates(line: str) -> Iterator[Estimate]:
    """The compiler's estimates in a piece of log."""
    for fps, latency, unit, ddr, page in _FPS.findall(line):
        yield Estimate(page.rsplit("/", 1)[-1], float(fps), float(latency) * _TO_US[unit], int(ddr))


def _phases(records: Iterable[Entry]) -> dict[str, float]:
    begun: dict[str, float] = {}
    spent: dict[str, float] = {}
    for entry in records:
        for phase, (start, end) in _PHASES.items():
            if entry.text.startswith(start):
                begun[phase] = entry.at
            elif entry.text.startswith(end) and phase in begun:
                spent[phase] = round(spent.get(phase, 0.0) + entry.at - begun.pop(phase), 3)
    return spent


def _samples(said: Iterable[str]) -> int | None:
    """The first count: a search counts the samples of its steps too."""
    found = next((match for line in said if (match := _SAMPLES.match(line))), None)
    return int(found[1] or found[2]) if found else None


def _method(said: list[str]) -> str:
    """What a search selected or started from, else what was run."""
    for pattern in (
        r"Select (.+?) method\.",
        r"Calculate all sensitivity nodes with (.+?) calibration method",
        r"Run calibration model with (.+?) method\.",
    ):
        found = [match[1] for line in said if (match := re.match(pattern, line))]
        if found:
            return found[-1]
    return ""


def _parameters(said: Iterable[str]) -> dict[str, str]:
    block = next((line for line in said if line.startswith(PARAMETERS)), "")
    return {match[1]: match[2].strip() for line in block.split("\n")[1:] if (match := _PARAMETER.fullmatch(line))}


def _last_table(said: Iterable[str], title: str) -> list[dict[str, str]]:
    """The rows of the last table under ``title``, by column; columns are parted by two blanks or more."""
    text = next((line for line in reversed(list(said)) if line.startswith(title)), "")
    lines = [line.rstrip() for line in text.split("\n")[1:] if line.strip() and not _RULE.fullmatch(line.strip())]
    if not lines:
        return []
    header = _COLUMNS.split(lines[0].strip())
    rows = (_cells(line, len(header)) for line in lines[1:])
    return [dict(zip(header, row, strict=True)) for row in rows if row]


def _cells(line: str, count: int) -> list[str]:
    """``count`` cells, or none when the line is cut off; a name may hold runs of blanks itself, or be empty."""
    found = _COLUMNS.split(line.strip())
    if line.startswith(" ") and len(found) == count - 1:
        return ["", *found]
    split = len(found) - count + 1
    return ["  ".join(found[:split]), *found[split:]] if split > 0 else []


def _node(row: Mapping[str, str]) -> Node:
    dtype = next((value for name, value in row.items() if name.endswith("DataType")), "")
    return Node(
        name=row.get("Node", ""),
        processor=row.get("ON", ""),
        subgraph=_text(row.get("Subgraph", "")),
        type=row.get("Type", ""),
        cosine=_number(row.get("Cosine Similarity", "")),
        threshold=_number(row.get("Threshold", "")),
        dtype=_text(dtype),
    )


def _output(row: Mapping[str, str]) -> Output:
    names = ("Cosine Similarity", "L1 Distance", "L2 Distance", "Chebyshev Distance")
    return Output(row.get("Output", ""), *(_number(row.get(name, "")) for name in names))


def _text(cell: str) -> str:
    return "" if cell == "--" else cell


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
