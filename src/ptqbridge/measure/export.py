"""The files and listings that trtexec makes besides its log: times, outputs, layer profile, raw tensors, layers.

Formats after NVIDIA/TensorRT samples/common/sampleReporting.cpp, sampleInference.cpp and sampleUtils.cpp, v8.6.1.
On purpose different: names are escaped, and nan or inf become null, since trtexec writes invalid JSON there; and a
file that cannot be written is an error, since trtexec says nothing.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ptqbridge.files import write_atomic
from ptqbridge.measure.text import SIX_DIGITS, dimensions, json_number, json_string, number
from ptqbridge.measure.trace import Trace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Tensors = Mapping[str, NDArray[Any]]

LayerTimes = Sequence[tuple[str, Sequence[float]]]
"""Layers in execution order: name, and the milliseconds of each run. Names may repeat."""

_STAMPS = (
    ("startEnqMs", "enqueue_start"),
    ("endEnqMs", "enqueue_end"),
    ("startH2dMs", "h2d_start"),
    ("endH2dMs", "h2d_end"),
    ("startComputeMs", "compute_start"),
    ("endComputeMs", "compute_end"),
    ("startD2hMs", "d2h_start"),
    ("endD2hMs", "d2h_end"),
)
_DURATIONS = (("h2dMs", "h2d"), ("computeMs", "compute"), ("d2hMs", "d2h"))

_TYPE_NAMES = {
    "float32": "Float",
    "float16": "Half",
    "int8": "Int8",
    "int32": "Int32",
    "uint8": "UInt8",
    "bool": "Bool",
    "float8_e4m3fn": "Float8",
    "bfloat16": "BFloat16",
    "int64": "Int64",
    "float64": "Double",
}


def times_text(kept: Trace) -> str:
    """``--exportTimes`` content: one line per query of ``kept`` (without warm-up), all 12 fields in milliseconds.

    A field of a phase that does not exist is null in every line. NVIDIA's readers are not disturbed by that: of our
    fields tracer.py prints start, end and length of the compute and the latency, trt-engine-explorer reads the
    latency alone, and these always exist.
    """
    columns: list[tuple[str, NDArray[np.floating[Any]] | None]] = [
        *((key, getattr(kept, name)) for key, name in _STAMPS),
        *((key, kept.durations(phase)) for key, phase in _DURATIONS),
        ("latencyMs", kept.latency()),
    ]
    row = ", ".join(f'"{key}" : {"null" if column is None else SIX_DIGITS}' for key, column in columns)
    values = zip(*(column.tolist() for _, column in columns if column is not None), strict=True)
    return "[\n" + _elements("{ " + row % figures + " }\n" for figures in values) + "]\n"


def export_times(path: str | os.PathLike[str], kept: Trace) -> None:
    """Write ``--exportTimes``. Raises InputError if the file cannot be written."""
    write_atomic(path, times_text(kept))


def profile_lines(layers: LayerTimes, runs: int) -> list[str]:
    """``--dumpProfile`` table.

    Args:
        layers: every layer's times.
        runs: all runs of that pass, warm-up included.

    Layers that took no time at all are left out; the row ``Total`` has the median of the runs' totals.
    """
    import numpy as np

    whole = np.float32(_whole(layers))
    lines = [
        "",
        f"=== Profile ({runs} iterations ) ===",
        "   Time(ms)     Avg.(ms)   Median(ms)   Time(%)   Layer",
    ]
    rows = [(name, _total(times), times) for name, times in layers]
    for name, total, times in rows:
        if total:
            average, share = np.float32(total) / np.float32(len(times)), np.float32(total) / whole * np.float32(100)
            lines.append(_profile_row(total, float(average), _median(times), float(share), name))
    if rows and whole and runs:
        complete = min(len(times) for _, _, times in rows)  # an interrupted run may lack its last layers
        per_run = np.sum([np.asarray(times[:complete], dtype=np.float32) for _, _, times in rows], axis=0)
        average = whole / np.float32(runs)
        lines.append(_profile_row(float(whole), float(average), _median(per_run), 100.0, "Total"))
    return [*lines, ""]


def profile_text(layers: LayerTimes, runs: int) -> str:
    """``--exportProfile`` content: the count of runs, then every layer, also those that took no time."""
    import numpy as np

    whole = np.float32(_whole(layers))
    entries = [f'{{ "count" : {runs} }}\n']
    for name, times in layers:
        total = np.float32(_total(times))
        figures = {
            "timeMs": float(total),
            "averageMs": float(total / np.float32(len(times))) if len(times) else None,
            "medianMs": _median(times) if len(times) else None,
            "percentage": float(total / whole * np.float32(100)) if whole else None,
        }
        text = ", ".join(f'"{key}" : {json_number(value)}' for key, value in figures.items())
        entries.append(f'{{ "name" : {json_string(name)}, {text} }}\n')
    return "[\n" + _elements(iter(entries)) + "]\n"


def export_profile(path: str | os.PathLike[str], layers: LayerTimes, runs: int) -> None:
    """Write ``--exportProfile``. Raises InputError if the file cannot be written."""
    write_atomic(path, profile_text(layers, runs))


def output_lines(outputs: Tensors) -> list[str]:
    """``--dumpOutput``: per output its name with dimensions, then all values on one line."""
    lines = ["Output Tensors:"]
    for name, array in outputs.items():
        lines += [f"{name}: ({dimensions(array.shape)})", " ".join(_values(array, number))]
    return lines


def output_text(outputs: Tensors) -> str:
    """``--exportOutput`` content. ``dimensions`` is a string like ``2x5``; values are flat, in logical order."""
    entries = (
        f'{{ "name" : {json_string(name)}\n'
        f'  , "dimensions" : "{dimensions(array.shape)}"\n'
        f'  , "values" : [ {", ".join(_values(array, json_number))} ]\n  }}\n'
        for name, array in outputs.items()
    )
    return "[\n" + _elements(entries) + "]\n"


def export_output(path: str | os.PathLike[str], outputs: Tensors) -> None:
    """Write ``--exportOutput``. Raises InputError if the file cannot be written."""
    write_atomic(path, output_text(outputs))


def raw_file_name(name: str, is_input: bool, array: NDArray[Any]) -> str:
    """``<name>.<input|output>.<d0.d1>.<Type>.raw``; bytes of the name not in ``A-Za-z0-9._-,`` become ``_``."""
    safe = re.sub(rb"[^A-Za-z0-9._,-]", b"_", name.encode("utf-8")).decode("ascii")
    kind = _TYPE_NAMES.get(array.dtype.name, array.dtype.name.capitalize())
    return f"{safe}.{'input' if is_input else 'output'}.{'.'.join(map(str, array.shape))}.{kind}.raw"


def dump_raw_bindings(inputs: Tensors, outputs: Tensors, folder: str | os.PathLike[str] = ".") -> list[str]:
    """``--dumpRawBindingsToFile``: write each tensor's bytes (C order) to a file of its own; returns the log lines.

    Two tensors whose names become the same file name do not overwrite each other (in trtexec they do): the later
    one's name gets ``_2``, ``_3``, ...

    Raises:
        InputError: a file cannot be written.
    """
    lines = ["Dumping I/O Bindings to RAW Files:"]
    taken: set[str] = set()
    for is_input, tensors in ((True, inputs), (False, outputs)):
        for name, array in tensors.items():
            file, again = raw_file_name(name, is_input, array), 1
            while file in taken:
                again += 1
                file = raw_file_name(f"{name}_{again}", is_input, array)
            taken.add(file)
            write_atomic(os.path.join(folder, file), array.tobytes())
            kind, shape = _TYPE_NAMES.get(array.dtype.name, array.dtype.name), ".".join(map(str, array.shape))
            lines.append(
                f"Writing file for {'input' if is_input else 'output'} binding {name} (with datatype {kind} and "
                f"dimensions {shape}) to {file}"
            )
    return lines


def layer_info_lines(layers: Sequence[str | Mapping[str, Any]], bindings: Sequence[str]) -> list[str]:
    """``--dumpLayerInfo``: one line per layer (its name, or its fields in one line), then the bindings."""
    texts = [layer if isinstance(layer, str) else _one_line(layer) for layer in layers]
    return ["Layer Information:", "\n".join(["Layers:", *texts, "", "Bindings:", *bindings])]


def layer_info_text(layers: Sequence[str | Mapping[str, Any]], bindings: Sequence[str]) -> str:
    """``--exportLayerInfo`` content: ``{"Layers": [...], "Bindings": [...]}``.

    Layers are names, or objects when detailed. trt-engine-explorer wants objects, each with ``Name``, ``LayerType``,
    ``Inputs`` and ``Outputs`` (lists of objects with ``Name``, ``Dimensions``, ``Format/Datatype``).
    """
    content = {"Layers": list(layers), "Bindings": list(bindings)}
    return json.dumps(content, ensure_ascii=False, indent=1, allow_nan=False) + "\n"


def export_layer_info(
    path: str | os.PathLike[str], layers: Sequence[str | Mapping[str, Any]], bindings: Sequence[str]
) -> None:
    """Write ``--exportLayerInfo``. Raises InputError if the file cannot be written."""
    write_atomic(path, layer_info_text(layers, bindings))


def _elements(entries: Iterator[str]) -> str:
    """Array elements as trtexec separates them: a line each, the comma in front."""
    return "".join(f"{', ' if position else '  '}{entry}" for position, entry in enumerate(entries))


def _values(array: NDArray[Any], real: Callable[[float], str]) -> Iterator[str]:
    """All values in C order as text: integers and bools in full as numbers, strings as JSON, the rest by ``real``."""
    flat = array.reshape(-1)
    if array.dtype.kind in "iu":
        return map(str, flat.tolist())
    if array.dtype.kind == "b":
        return map(str, flat.astype("uint8").tolist())
    if array.dtype.kind in "OSU":
        return (json_string(value.decode() if isinstance(value, bytes) else str(value)) for value in flat.tolist())
    return map(real, flat.astype("float64").tolist())


def _total(times: Sequence[float]) -> float:
    """Float32 sum in order, as trtexec's ``std::accumulate``."""
    import numpy as np

    return float(np.add.accumulate(np.asarray(times, dtype=np.float32))[-1]) if len(times) else 0.0


def _whole(layers: LayerTimes) -> float:
    return _total([_total(times) for _, times in layers])


def _median(times: Any) -> float:
    import numpy as np

    ascending = np.sort(np.asarray(times, dtype=np.float32))
    middle = len(ascending) // 2
    if not len(ascending):
        return 0.0
    return float(ascending[middle] if len(ascending) % 2 else (ascending[middle - 1] + ascending[middle]) / 2)


def _profile_row(total: float, average: float, median: float, share: float, name: str) -> str:
    return f"{total:11.2f}{average:13.4f}{median:13.4f}{share:10.1f}   {name}"


def _one_line(layer: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}: {value if isinstance(value, str) else json.dumps(value)}" for key, value in layer.items())
