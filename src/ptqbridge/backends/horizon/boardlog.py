"""What hrt_model_exec prints and writes, as records: perf, infer, model_info, profiler.log and profiler.csv.

Formats after published consoles of Journey 6 and RDK X5 boards. All times are milliseconds.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ptqbridge.errors import ToolchainFailed

_NUMBER = r"([\d.]+(?:[eE][-+]?\d+)?)"
_LOAD = re.compile(rf"Load model to DDR cost {_NUMBER}\s*ms")
_STREAM = re.compile(
    rf"Frame count: (\d+),\s+Thread Average: {_NUMBER} ms,\s+thread max latency: {_NUMBER} ms,"
    rf"\s+thread min latency: {_NUMBER} ms,\s+FPS: {_NUMBER}"
)
_FIELDS = {
    "threads": re.compile(r"Thread number\s+is: (\d+)"),
    "frames": re.compile(r"Frame count\s+is: (\d+)"),
    "run_ms": re.compile(rf"Program run time: {_NUMBER} ms"),
    "total_ms": re.compile(rf"Frame totally latency is: {_NUMBER} ms"),
    "average_ms": re.compile(rf"Average\s+latency\s+is: {_NUMBER} ms"),
    "fps": re.compile(rf"Frame\s+rate\s+is: {_NUMBER} FPS"),
}
_INFER = re.compile(rf"Infer time: {_NUMBER} ms")
_RUNTIME = re.compile(r"\[DNN\](?: Runtime version =|:) (\S+)")
_BUILDER = re.compile(r"The model builder version = (\S+)|\"BUILDER_VERSION\": ?\"([^\"]+)\"")
_WARNING = re.compile(r"^\[W\].*|^W\d{4} .*")


@dataclass(frozen=True)
class Stream:
    """A progress line: figures of all frames so far."""

    frames: int
    average_ms: float
    max_ms: float
    min_ms: float
    fps: float


@dataclass(frozen=True)
class Perf:
    """One perf run. ``complete`` only with the whole result block; min and max come from the last progress line."""

    load_ms: float | None
    threads: int | None
    frames: int | None
    run_ms: float | None
    total_ms: float | None
    average_ms: float | None
    fps: float | None
    stream: Stream | None
    runtime: str
    builder: str
    warnings: tuple[str, ...]

    @property
    def complete(self) -> bool:
        """Whether the result block is there."""
        return None not in (self.threads, self.frames, self.run_ms, self.total_ms, self.average_ms, self.fps)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def parse_perf(text: str) -> Perf:
    """Read perf's console; what is not there is None."""
    found: dict[str, Any] = {}
    for name, pattern in _FIELDS.items():
        match = pattern.search(text)
        found[name] = (int if name in ("threads", "frames") else float)(match[1]) if match else None
    lines = _STREAM.findall(text)
    stream = Stream(int(lines[-1][0]), *(float(word) for word in lines[-1][1:])) if lines else None
    load, runtime, builder = _LOAD.search(text), _RUNTIME.search(text), _BUILDER.search(text)
    return Perf(
        load_ms=float(load[1]) if load else None,
        stream=stream,
        runtime=runtime[1] if runtime else "",
        builder=(builder[1] or builder[2]) if builder else "",
        warnings=tuple(line for line in text.splitlines() if _WARNING.match(line)),
        **found,
    )


def broken_laws(perf: Perf) -> list[str]:
    """Which of the tool's own laws the figures of a complete run break: a cut or mixed-up output does.

    rate = frames * 1000 / run time; average = sum / frames; min <= average <= max.
    """
    if not perf.complete:
        return ["the result block is not complete"]
    frames, run, total = float(perf.frames or 0), perf.run_ms or 0.0, perf.total_ms or 0.0
    average, fps = perf.average_ms or 0.0, perf.fps or 0.0
    broken = []
    if not math.isclose(fps * run, frames * 1000, rel_tol=2e-3):
        broken.append(f"frame rate {fps:g} is not {frames:g} frames in {run:g} ms")
    if not math.isclose(average * frames, total, rel_tol=2e-3, abs_tol=1e-3 * frames):
        broken.append(f"average latency {average:g} ms is not {total:g} ms over {frames:g} frames")
    if perf.stream and not perf.stream.min_ms <= perf.stream.average_ms * 1.001 <= perf.stream.max_ms * 1.002:
        broken.append("the average latency lies outside minimum and maximum")
    return broken


def parse_infer(text: str) -> list[float]:
    """Milliseconds of every frame of an infer run, in order."""
    return [float(word) for word in _INFER.findall(text)]


@dataclass(frozen=True)
class BoardTensor:
    """An input or output as the board's tool shows it; a dimension of -1 is chosen at run time."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    size: int | None
    source: str = ""
    layout: str = ""


@dataclass(frozen=True)
class ModelInfo:
    """What model_info tells; ``desc`` is the builder's record inside newer Journey 6 models."""

    load_ms: float | None
    model: str
    inputs: tuple[BoardTensor, ...]
    outputs: tuple[BoardTensor, ...]
    desc: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)


def parse_model_info(text: str) -> ModelInfo:
    """Read model_info's console. Raises ToolchainFailed when no model is in it."""
    named = re.search(r"\[model name\]: (.*)", text)
    if not named:
        raise ToolchainFailed("hrt_model_exec model_info did not show a model")
    load, desc = _LOAD.search(text), re.search(r"\[model desc\]: (\{.*\})", text)
    tensors: dict[str, list[BoardTensor]] = {"input": [], "output": []}
    for side, body in re.findall(r"(?ms)^(input|output)\[\d+\]:[ ]*\n(.*?)(?=^\s*$|^(?:input|output)\[|^-{9})", text):
        keys = dict(re.findall(r"(?m)^([a-z ]+): (.*?)\s*$", body))
        shape = tuple(int(word) for word in keys.get("valid shape", "").strip("()").split(",") if word)
        size = int(keys["aligned byte size"]) if keys.get("aligned byte size", "").lstrip("-").isdigit() else None
        kind = keys.get("tensor type", "").replace("HB_DNN_TENSOR_TYPE_", "").replace("HB_DNN_IMG_TYPE_", "")
        layout = keys.get("tensor layout", "").replace("HB_DNN_LAYOUT_", "")
        source = keys.get("input source", "").replace("HB_DNN_INPUT_FROM_", "")
        tensors[side].append(BoardTensor(keys.get("name", ""), shape, kind, size, source, layout))
    try:
        record = json.loads(desc[1]) if desc else {}
    except ValueError:
        record = {}
    load_ms = float(load[1]) if load else None
    return ModelInfo(load_ms, named[1].strip(), tuple(tensors["input"]), tuple(tensors["output"]), record)


def parse_profiler(text: str) -> dict[str, Any]:
    """profiler.log: ``version``, ``result``, ``condition``, ``nodes`` (name to avg/min/max), ``processors``, ``tasks``.

    Journey 6 has a line with the version, stages per node and processor_latency; Journey 5 plain nodes and
    chip_latency. Raises ToolchainFailed when the file was cut off.
    """
    version = re.match(r"ucp_version: (.*)\n", text)
    head, mark, body = text[version.end() if version else 0 :].partition("***")
    try:
        first, second = json.loads(head), json.loads(body)
    except ValueError:
        raise ToolchainFailed("profiler.log was cut off: it holds no complete profile") from None
    if not mark or not isinstance(first, dict) or not isinstance(second, dict):
        raise ToolchainFailed("profiler.log has another form than known")
    nodes = {
        name: times.get("Total", times) if isinstance(times, dict) else {}
        for name, times in (second.get("model_latency") or {}).items()
    }
    return {
        "version": version[1].strip() if version else "",
        "result": first.get("perf_result", {}),
        "condition": first.get("running_condition", {}),
        "nodes": nodes,
        "processors": second.get("processor_latency") or second.get("chip_latency") or {},
        "tasks": second.get("task_latency") or {},
    }


def parse_csv(text: str) -> dict[str, str]:
    """profiler.csv of Journey 6: name to value."""
    rows = (line.partition(",") for line in text.splitlines() if "," in line)
    return {name.strip(): value.strip() for name, _, value in rows}


_CODE = re.compile(r"error code: ?(-?\d+)")
_FAILED = re.compile(r"\bfailed\b|^ERROR|\[E\]|No space left|not found")


def failure_line(text: str) -> str:
    """The line of a failed run that says why: one with an error code, else with "failed" or ERROR, else the last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for pattern in (_CODE, _FAILED):
        for line in lines:
            if pattern.search(line):
                return line[:300]
    return lines[-1][:300] if lines else "it said nothing about why"
