"""Shared helpers: made-up traces, trtexec's defaults, and a reader of trtexec logs of our own."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from ptqbridge.measure.trace import Trace

HEADED = re.compile(r"\[\d+/\d+/\d+-\d+:\d+:\d+\] \[I\] (.*)")


@pytest.fixture
def read_section() -> Callable[[str, str], dict[str, str]]:
    """Reads the ``key: value`` lines of one ``=== section ===`` as trt-engine-explorer's log parser does: up to the
    first line that has no such pair, at info level only."""

    def read(log: str, title: str) -> dict[str, str]:
        lines = iter(log.splitlines())
        for line in lines:
            if f"=== {title} ===" in line:
                break
        found: dict[str, str] = {}
        for line in lines:
            match = HEADED.search(line)
            parts = match.group(1).strip().split(": ") if match else []
            if len(parts) < 2:
                break
            found[parts[0]] = parts[1]
        return found

    return read


@pytest.fixture
def stats_of() -> Callable[[str], list[float]]:
    """The numbers of ``min = 1 ms, max = 2 ms, ...`` as trtexec's readers take them: split at commas, then at =."""

    def read(text: str) -> list[float]:
        return [float(part.split("=")[1].strip().split(" ")[0]) for part in text.split(",")]

    return read


@pytest.fixture
def full_trace() -> Callable[..., Trace]:
    """A trace with all columns: query i starts at ``starts[i]``; copies and compute follow each other at once."""

    def make(
        starts: Sequence[float],
        compute: Sequence[float] | float = 2.0,
        copy_in: float = 0.5,
        copy_out: float = 0.25,
        enqueue: float = 0.125,
    ) -> Trace:
        begin = np.asarray(starts, dtype=np.float64)
        compute_start = begin + copy_in
        compute_end = compute_start + np.asarray(compute, dtype=np.float64)
        return Trace(
            compute_start=compute_start,
            compute_end=compute_end,
            enqueue_start=compute_start - 0.0625,
            enqueue_end=compute_start - 0.0625 + enqueue,
            h2d_start=begin,
            h2d_end=compute_start,
            d2h_start=compute_end,
            d2h_end=compute_end + copy_out,
        )

    return make


@pytest.fixture
def compute_trace() -> Callable[..., Trace]:
    """A trace of a synchronous engine: compute columns only."""

    def make(starts: Sequence[float], compute: Sequence[float] | float = 2.0) -> Trace:
        begin = np.asarray(starts, dtype=np.float64)
        return Trace(compute_start=begin, compute_end=begin + np.asarray(compute, dtype=np.float64))

    return make


@pytest.fixture
def defaults() -> dict[str, Any]:
    """Option values of ``trtexec --onnx=m.onnx`` (8.6.1) that the echo shows."""
    off = (
        "fp16 int8 fp8 refit versionCompatible excludeLeanRuntime safe buildDLAStandalone allowGPUFallback directIO "
        "restricted skipInference save load heuristic"
    )
    disabled = "skipTransfers spin threads graph rerun timeDeserialize timeRefit"
    return {
        "model.format": "onnx",
        "model.model": "m.onnx",
        "model.prototxt": "",
        "model.outputs": [],
        "model.uffNHWC": False,
        "model.uffInputs": [],
        "build.maxBatch": 0,
        "build.workspace": -1,
        "build.dlaSRAM": -1,
        "build.dlaLocalDRAM": -1,
        "build.dlaGlobalDRAM": -1,
        "build.minTiming": 1,
        "build.avgTiming": 8,
        **{f"build.{name}": False for name in off.split()},
        "build.precisionConstraints": 0,
        "build.layerPrecisions": {},
        "build.layerDeviceTypes": {},
        "build.calibration": "",
        "build.useRuntime": 0,
        "build.leanDLLPath": "",
        "build.tempfileControls": 3,
        "build.sparsity": 0,
        "build.engine": "",
        "build.profilingVerbosity": 0,
        "build.enabledTactics": 0,
        "build.disabledTactics": 0,
        "build.timingCacheMode": 1,
        "build.timingCacheFile": "",
        "build.previewFeatures": {},
        "build.maxAuxStreams": -1,
        "build.builderOptimizationLevel": -1,
        "build.inputFormats": [],
        "build.outputFormats": [],
        "build.shapes": {},
        "build.shapesCalib": {},
        "system.device": 0,
        "system.DLACore": -1,
        "system.plugins": [],
        "system.setPluginsToSerialize": [],
        "system.dynamicPlugins": [],
        "system.ignoreParsedPluginLibs": False,
        "inference.batch": 0,
        "inference.shapes": {},
        "inference.iterations": 10,
        "inference.duration": 3,
        "inference.warmup": 200,
        "inference.sleep": 0,
        "inference.idle": 0,
        "inference.infStreams": 1,
        "inference.overlap": True,
        **{f"inference.{name}": False for name in disabled.split()},
        "inference.persistentCacheRatio": 0,
        "inference.inputs": {},
        "reporting.verbose": False,
        "reporting.avgs": 10,
        "reporting.percentiles": [90, 95, 99],
        "reporting.refit": False,
        "reporting.output": False,
        "reporting.profile": False,
        "reporting.exportTimes": "",
        "reporting.exportOutput": "",
        "reporting.exportProfile": "",
    }
