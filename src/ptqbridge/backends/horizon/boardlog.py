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

from ptqbridge.backends.horizon.boardfiles import TOOL
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
_INFER = re.compile(rf"Infer\s+time\s*: {_NUMBER} ms")
_RUNTIME = re.compile(r"\[DNN\](?: Runtime version =|:) (\d\S*(?: HBRT\))?)")
_BUILDER = re.compile(r"The model builder version = (\S+)|\"BUILDER_VERSION\": ?\"([^\"]+)\"")
_WARNING = re.compile(r"^\[W\].*|^W\d{4} .*")


@dataclass(frozen=True)
class Stream:
    """The last progress line, with the extremes of all ``lines``: each may be of its own frames alone."""

    frames: int
    average_ms: float
    max_ms: float
    min_ms: float
    fps: float
    lines: int = 1


@dataclass(frozen=True)
class Perf:
    """One perf run. ``complete`` only with the whole result block; min and max are in ``stream``."""

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
    stream = None
    if lines:
        frames, average, _, _, fps = lines[-1]
        longest, shortest = max(float(line[2]) for line in lines), min(float(line[3]) for line in lines)
        stream = Stream(int(frames), float(average), longest, shortest, float(fps), len(lines))
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

    rate = frames * 1000 / run time; average = sum / frames, and that of the threads; min <= average <= max.
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
    whole = perf.stream is not None and (perf.stream.frames, perf.stream.lines) == (perf.frames, 1)
    if whole and perf.stream and not math.isclose(perf.stream.average_ms, average, rel_tol=2e-3, abs_tol=1e-3):
        broken.append(f"average latency {average:g} ms is not the threads' {perf.stream.average_ms:g} ms")
    if perf.stream and not perf.stream.min_ms <= perf.stream.average_ms * 1.001 <= perf.stream.max_ms * 1.002:
        broken.append("the average latency lies outside minimum and maximum")
    return broken


def parse_infer(text: str) -> list[float]:
    """Milliseconds of every frame of an infer run, in order."""
    return [float(word) for word in _INFER.findall(text)]


@dataclass(frozen=True)
class BoardTensor:
    """An input or output as the board's tool shows it; sizes and strides are bytes, and -1 where chosen at run time.

    ``dtype`` is the tool's word without its prefix (F32, S8, NV12); ``aligned`` is the shape in memory (Journey 5
    only, else empty). Integers stand for ``(value - zero_point) * scale`` where ``scale`` is not empty: one for all,
    or one per place of ``axis``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    size: int | None
    source: str = ""
    layout: str = ""
    aligned: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    scale: tuple[float, ...] = ()
    zero_point: tuple[int, ...] = ()
    axis: int | None = None

    def text(self) -> str:
        """``images: NV12 1x3x640x640 NCHW, from PYRAMID``."""
        more = [f"{len(self.scale)} scale(s)"] * bool(self.scale) + [f"from {self.source}"] * bool(self.source)
        return ", ".join([f"{self.name}: {self.dtype} {'x'.join(map(str, self.shape))} {self.layout}".rstrip(), *more])


@dataclass(frozen=True)
class ModelInfo:
    """What model_info tells; ``desc`` is the builder's record inside newer Journey 6 models."""

    load_ms: float | None
    model: str
    inputs: tuple[BoardTensor, ...]
    outputs: tuple[BoardTensor, ...]
    desc: Mapping[str, Any] = field(default_factory=dict)
    runtime: str = ""
    builder: str = ""

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return asdict(self)

    def summary(self) -> dict[str, Any]:
        """For people: a line per tensor."""
        desc = {key: value for key, value in self.desc.items() if value not in ("", "[]", [], {}, None)}
        return {
            "name": self.model,
            "inputs": [tensor.text() for tensor in self.inputs],
            "outputs": [tensor.text() for tensor in self.outputs],
            "load ms": self.load_ms,
            "runtime": self.runtime,
            "builder": self.builder,
            "record of the builder": {key: str(value) for key, value in desc.items()},
        }


_TENSOR = re.compile(r"(?ms)^(input|output)\[\d+\]:[ \t]*\n(.*?)(?=^\s*$|^(?:input|output)\[|^-{9}|\Z)")
_PREFIXES = ("HB_DNN_TENSOR_TYPE_", "HB_DNN_IMG_TYPE_", "HB_DNN_LAYOUT_", "HB_DNN_INPUT_FROM_")


def parse_model_info(text: str) -> ModelInfo:
    """Read model_info's console. Raises ToolchainFailed when no model, or more than one, is in it."""
    named = re.findall(r"\[model name\]: (.*)", text)
    if len(named) != 1:
        raise ToolchainFailed(f"{TOOL} model_info: expected one model, found {len(named)}: {failure_line(text)}")
    load, desc = _LOAD.search(text), re.search(r"\[model desc\]: (\{.*\})", text)
    tensors: dict[str, list[BoardTensor]] = {"input": [], "output": []}
    for side, body in _TENSOR.findall(text):
        tensors[side].append(_tensor(dict(re.findall(r"(?m)^([A-Za-z_ ]+): ?(.*?)\s*$", body))))
    try:
        record = json.loads(desc[1]) if desc else {}
    except ValueError:
        record = {}
    runtime, builder = _RUNTIME.search(text), _BUILDER.search(text)
    return ModelInfo(
        load_ms=float(load[1]) if load else None,
        model=named[0].strip(),
        inputs=tuple(tensors["input"]),
        outputs=tuple(tensors["output"]),
        desc=record,
        runtime=runtime[1] if runtime else "",
        builder=(builder[1] or builder[2]) if builder else "",
    )


def _tensor(keys: Mapping[str, str]) -> BoardTensor:
    def word(key: str) -> str:
        text = keys.get(key, "")
        return next((text[len(prefix) :] for prefix in _PREFIXES if text.startswith(prefix)), text)

    def numbers(key: str) -> list[str]:
        return [number for number in keys.get(key, "").strip("() ").split(",") if number.strip()]

    size, axis = keys.get("aligned byte size", ""), keys.get("quantizeAxis", "")
    return BoardTensor(
        name=keys.get("name", ""),
        shape=tuple(map(int, numbers("valid shape"))),
        dtype=word("tensor type"),
        size=int(size) if size.lstrip("-").isdigit() else None,
        source=word("input source"),
        layout=word("tensor layout"),
        aligned=tuple(map(int, numbers("aligned shape"))),
        stride=tuple(map(int, numbers("stride"))),
        scale=tuple(map(float, numbers("scale data"))),
        zero_point=tuple(map(int, numbers("zero_point data"))),
        axis=int(axis) if axis.lstrip("-").isdigit() else None,
    )


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
    nodes = {name: _node(times) for name, times in (second.get("model_latency") or {}).items()}
    return {
        "version": version[1].strip() if version else "",
        "result": first.get("perf_result", {}),
        "condition": first.get("running_condition", {}),
        "nodes": nodes,
        "processors": second.get("processor_latency") or second.get("chip_latency") or {},
        "tasks": second.get("task_latency") or {},
    }


def _node(times: Any) -> dict[str, float]:
    """Average, largest and smallest time of a node; where it has stages only, their sums."""
    if not isinstance(times, dict):
        return {}
    times = times.get("Total", times)
    stages = [stage for stage in times.values() if isinstance(stage, dict)]
    if not stages:
        return dict(times)
    return {key: sum(float(stage.get(key, 0.0)) for stage in stages) for key in ("avg_time", "max_time", "min_time")}


def parse_csv(text: str) -> dict[str, str]:
    """profiler.csv of Journey 6: name to value."""
    rows = (line.partition(",") for line in text.splitlines() if "," in line)
    return {name.strip(): value.strip() for name, _, value in rows}


_CODE = re.compile(r"error code: ?(-?\d+)")
_FAILED = re.compile(r"\bfailed\b|^ERROR|\[E\]|No space left|not found|incompatible", re.IGNORECASE)


def failure_line(text: str) -> str:
    """The line of a failed run that says why: one with an error code, else with "failed" or ERROR, else the last."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    for pattern in (_CODE, _FAILED):
        for line in lines:
            if pattern.search(line):
                return line[:300]
    return lines[-1][:300] if lines else "it said nothing about why"
