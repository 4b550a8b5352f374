"""The option echo: golden text for the defaults, single lines for single options, and how a log reader sees it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptqbridge.measure.echo import build_lines, device_lines, echo_lines, inference_lines, model_lines, system_lines

DEFAULT_ECHO = """\
=== Model Options ===
Format: ONNX
Model: m.onnx
Output:
=== Build Options ===
Max batch: explicit batch
Memory Pools: workspace: default, dlaSRAM: default, dlaLocalDRAM: default, dlaGlobalDRAM: default
minTiming: 1
avgTiming: 8
Precision: FP32
LayerPrecisions:\x20
Layer Device Types:\x20
Calibration:\x20
Refit: Disabled
Version Compatible: Disabled
TensorRT runtime: full
Lean DLL Path:\x20
Tempfile Controls: { in_memory: allow, temporary: allow }
Exclude Lean Runtime: Disabled
Sparsity: Disabled
Safe mode: Disabled
Build DLA standalone loadable: Disabled
Allow GPU fallback for DLA: Disabled
DirectIO mode: Disabled
Restricted mode: Disabled
Skip inference: Disabled
Save engine:\x20
Load engine:\x20
Profiling verbosity: 0
Tactic sources: Using default tactic sources
timingCacheMode: local
timingCacheFile:\x20
Heuristic: Disabled
Preview Features: Use default preview flags.
MaxAuxStreams: -1
BuilderOptimizationLevel: -1
Input(s)s format: fp32:CHW
Output(s)s format: fp32:CHW
Input build shapes: model
Input calibration shapes: model
=== System Options ===
Device: 0
DLACore:\x20
Plugins:
setPluginsToSerialize:
dynamicPlugins:
ignoreParsedPluginLibs: 0

=== Inference Options ===
Batch: Explicit
Input inference shapes: model
Iterations: 10
Duration: 3s (+ 200ms warm up)
Sleep time: 0ms
Idle time: 0ms
Inference Streams: 1
ExposeDMA: Disabled
Data transfers: Enabled
Spin-wait: Disabled
Multithreading: Disabled
CUDA Graph: Disabled
Separate profiling: Disabled
Time Deserialize: Disabled
Time Refit: Disabled
NVTX verbosity: 0
Persistent Cache Ratio: 0
Inputs:
=== Reporting Options ===
Verbose: Disabled
Averages: 10 inferences
Percentiles: 90,95,99
Dump refittable layers:Disabled
Dump output: Disabled
Profile: Disabled
Export timing to JSON file:\x20
Export output to JSON file:\x20
Export profile to JSON file:\x20
"""


def test_echo_of_the_defaults(defaults: dict[str, Any]) -> None:
    assert echo_lines(defaults) == [*DEFAULT_ECHO.splitlines(), ""]


@pytest.mark.parametrize(
    ("option", "value", "line"),
    [
        ("fp16", True, "Precision: FP32+FP16"),
        ("maxBatch", 4, "Max batch: 4"),
        ("sparsity", 2, "Sparsity: Forced"),
        ("timingCacheMode", 0, "timingCacheMode: disable"),
        ("useRuntime", 2, "TensorRT runtime: lean"),
        ("tempfileControls", 2, "Tempfile Controls: { in_memory: deny, temporary: allow }"),
        ("disabledTactics", 24, "Tactic sources: edge mask convolutions [OFF], JIT convolutions [OFF], "),
        ("enabledTactics", 5, "Tactic sources: cublas [ON], cudnn [ON], "),
        (
            "previewFeatures",
            {"0": True, "2": False},
            "Preview Features: kFASTER_DYNAMIC_SHAPES_0805 [ON], kPROFILE_SHARING_0806 [OFF], ",
        ),
        ("layerPrecisions", {"c": "int32", "d": "fp8"}, "LayerPrecisions: c:int32,d:fp8"),
        ("layerDeviceTypes", {"d": "GPU", "c": "DLA"}, "Layer Device Types: d:GPU, c:DLA"),
        ("inputFormats", ["fp32:chw", "fp16:+hwc8"], "Input(s): fp16:+hwc8"),
        (
            "shapes",
            {"a": {"min": [1, 3], "opt": [4, 3], "max": [8, 3]}},
            "Input build shape: a=1x3+4x3+8x3",
        ),
        ("shapes", {"b": {"min": [1], "opt": [], "max": [4]}}, "Input build shape: b=1"),
        (
            "workspace",
            0.25,
            "Memory Pools: workspace: 0.25 MiB, dlaSRAM: default, dlaLocalDRAM: default, dlaGlobalDRAM: default",
        ),
        (
            "dlaSRAM",
            "inf",
            "Memory Pools: workspace: default, dlaSRAM: inf MiB, dlaLocalDRAM: default, dlaGlobalDRAM: default",
        ),
    ],
)
def test_build_options(defaults: dict[str, Any], option: str, value: object, line: str) -> None:
    assert line in build_lines({**defaults, f"build.{option}": value})


def test_int8_without_cache_is_called_dynamic(defaults: dict[str, Any]) -> None:
    lines = build_lines({**defaults, "build.int8": True, "build.precisionConstraints": 1})
    assert "Calibration: Dynamic" in lines and "Precision: FP32+INT8 (obey precision constraints)" in lines
    assert "Calibration: c.cache" in build_lines({**defaults, "build.int8": True, "build.calibration": "c.cache"})


def test_engine_stands_at_save_or_load(defaults: dict[str, Any]) -> None:
    saved = build_lines({**defaults, "build.engine": "e", "build.save": True})
    assert "Save engine: e" in saved and "Load engine: " in saved


def test_other_model_formats(defaults: dict[str, Any]) -> None:
    caffe = {"model.format": "other", "model.format2": "caffe", "model.prototxt": "p", "model.outputs": ["a", "b"]}
    assert model_lines({**defaults, **caffe})[1:] == ["Format: Caffe", "Model: m.onnx", "Prototxt: p", "Output: a b"]
    uff = {"model.format": "other", "model.format2": "uff", "model.uffInputs": [["in", 3, 224, 224]]}
    assert "Input: in,3,224,224" in model_lines({**defaults, **uff})
    assert "Format: *" in model_lines({**defaults, "model.format": "any"})


def test_system_and_inference_options(defaults: dict[str, Any]) -> None:
    lines = system_lines({**defaults, "system.DLACore": 1, "system.plugins": ["a.so", "b.so"]})
    assert "DLACore: 1" in lines and "Plugins: a.so b.so" in lines
    run = inference_lines(
        {
            **defaults,
            "inference.batch": 2,
            "inference.duration": 0.5,
            "inference.inputs": {"x": "x.bin"},
            "build.profilingVerbosity": 2,
        }
    )
    assert "Batch: 2" in run and "Duration: 0.5s (+ 200ms warm up)" in run and "x<-x.bin" in run
    assert "NVTX verbosity: 2" in run
    shaped = inference_lines({**defaults, "inference.batch": 2, "inference.shapes": {"a": [4, 3]}})
    assert "Batch: Explicit" in shaped and "Input inference shape: a=4x3" in shaped


def test_a_log_reader_meets_every_section(
    defaults: dict[str, Any], read_section: Callable[[str, str], dict[str, str]]
) -> None:
    lines = echo_lines(defaults) + device_lines({"Selected Device": "some CPU", "Cores": 2, "SMs": None, "ECC": ""})
    log = "".join(f"[01/02/2024-03:04:05] [I] {line}\n" for line in lines)
    assert read_section(log, "Model Options") == {"Format": "ONNX", "Model": "m.onnx"}
    assert read_section(log, "Build Options")["Precision"] == "FP32"
    inference = read_section(log, "Inference Options")
    assert inference["Iterations"] == "10" and inference["Persistent Cache Ratio"] == "0"
    assert read_section(log, "Device Information") == {"Selected Device": "some CPU", "Cores": "2"}


def test_device_note_follows_an_empty_line() -> None:
    assert device_lines({"SMs": 1}, "clocks may differ") == [
        "=== Device Information ===",
        "SMs: 1",
        "",
        "clocks may differ",
    ]


def test_every_effective_case_can_be_echoed() -> None:
    """The real parser's results, where that collection is at hand."""
    folder = Path(os.environ.get("PTQBRIDGE_CASES", ""))
    root = folder / "trtexec-8.6.1.jsonl"
    if not root.is_file():
        pytest.skip("no trtexec cases: set PTQBRIDGE_CASES to their folder")
    defaults = json.loads((folder / "trtexec-8.6.1-defaults.json").read_text())
    cases = [json.loads(line) for line in root.read_text().splitlines()]
    effective = [case["effective"] for case in cases if case.get("effective") is not None]
    assert effective
    for values in effective:
        assert len(echo_lines({**defaults, **values})) >= 75
