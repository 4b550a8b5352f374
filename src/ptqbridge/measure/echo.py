"""The echo of the effective options and of the device, worded as trtexec 8.6.1 words it.

Readers of trtexec logs key on this wording, quirks included (``Input(s)s format``). After NVIDIA/TensorRT
samples/common/sampleOptions.cpp (the ``operator<<`` of the option classes) and sampleDevice.h, v8.6.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ptqbridge.measure.text import dimensions, number

Effective = Mapping[str, Any]
"""Option values after all fill-in, under trtexec's own field names (``build.fp16``, ``inference.warmup``, ...)."""

_FORMATS = {"any": "*", "caffe": "Caffe", "onnx": "ONNX", "uff": "UFF"}
_CONSTRAINTS = ("", " (obey precision constraints)", " (prefer precision constraints)")
_SPARSITY = ("Disabled", "Enabled", "Forced")
_CACHE_MODES = ("disable", "local", "global")
_RUNTIMES = ("full", "dispatch", "lean")
_TACTICS = ("cublas", "cublasLt", "cudnn", "edge mask convolutions", "JIT convolutions")
_PREVIEWS = (
    "kFASTER_DYNAMIC_SHAPES_0805",
    "kDISABLE_EXTERNAL_TACTIC_SOURCES_FOR_CORE_0805",
    "kPROFILE_SHARING_0806",
)


def echo_lines(effective: Effective) -> list[str]:
    """The five option sections in trtexec's order; ends with an empty line.

    Raises:
        KeyError: an option that trtexec 8.6.1 echoes is missing from ``effective``.
    """
    return [
        *model_lines(effective),
        *build_lines(effective),
        *system_lines(effective),
        *inference_lines(effective),
        *reporting_lines(effective),
        "",
    ]


def model_lines(effective: Effective) -> list[str]:
    """``=== Model Options ===``."""
    kind = effective["model.format"]
    if kind == "other":  # the parser's first word for what ``format2`` then names
        kind = effective.get("model.format2", "any")
    lines = ["=== Model Options ===", f"Format: {_FORMATS[kind]}", f"Model: {effective['model.model']}"]
    if kind == "caffe":
        lines.append(f"Prototxt: {effective['model.prototxt']}")
    if kind == "uff":
        lines.append(f"Uff Inputs Layout: {'NHWC' if effective['model.uffNHWC'] else 'NCHW'}")
        lines += [f"Input: {','.join(str(part) for part in entry)}" for entry in effective["model.uffInputs"]]
    return [*lines, _listed("Output:", effective["model.outputs"])]


def build_lines(effective: Effective) -> list[str]:
    """``=== Build Options ===``."""
    build = {key[len("build.") :]: value for key, value in effective.items() if key.startswith("build.")}
    engine = build["engine"]
    dynamic = build["int8"] and not build["calibration"]
    return [
        "=== Build Options ===",
        f"Max batch: {build['maxBatch'] or 'explicit batch'}",
        f"Memory Pools: {_memory_pools(build)}",
        f"minTiming: {build['minTiming']}",
        f"avgTiming: {build['avgTiming']}",
        f"Precision: {_precision(build)}",
        f"LayerPrecisions: {','.join(f'{k}:{v}' for k, v in build['layerPrecisions'].items())}",
        f"Layer Device Types: {', '.join(f'{k}:{v}' for k, v in build['layerDeviceTypes'].items())}",
        f"Calibration: {'Dynamic' if dynamic else build['calibration']}",
        f"Refit: {_enabled(build['refit'])}",
        f"Version Compatible: {_enabled(build['versionCompatible'])}",
        f"TensorRT runtime: {_RUNTIMES[build['useRuntime']]}",
        f"Lean DLL Path: {build['leanDLLPath']}",
        f"Tempfile Controls: {_tempfile_controls(build['tempfileControls'])}",
        f"Exclude Lean Runtime: {_enabled(build['excludeLeanRuntime'])}",
        f"Sparsity: {_SPARSITY[build['sparsity']]}",
        f"Safe mode: {_enabled(build['safe'])}",
        f"Build DLA standalone loadable: {_enabled(build['buildDLAStandalone'])}",
        f"Allow GPU fallback for DLA: {_enabled(build['allowGPUFallback'])}",
        f"DirectIO mode: {_enabled(build['directIO'])}",
        f"Restricted mode: {_enabled(build['restricted'])}",
        f"Skip inference: {_enabled(build['skipInference'])}",
        f"Save engine: {engine if build['save'] else ''}",
        f"Load engine: {engine if build['load'] else ''}",
        f"Profiling verbosity: {build['profilingVerbosity']}",
        f"Tactic sources: {_tactic_sources(build['enabledTactics'], build['disabledTactics'])}",
        f"timingCacheMode: {_CACHE_MODES[build['timingCacheMode']]}",
        f"timingCacheFile: {build['timingCacheFile']}",
        f"Heuristic: {_enabled(build['heuristic'])}",
        f"Preview Features: {_preview_features(build['previewFeatures'])}",
        f"MaxAuxStreams: {build['maxAuxStreams']}",
        f"BuilderOptimizationLevel: {build['builderOptimizationLevel']}",
        *_io_formats("Input(s)", build["inputFormats"]),
        *_io_formats("Output(s)", build["outputFormats"]),
        *_shapes("build", {name: _range(shapes) for name, shapes in build["shapes"].items()}),
        *_shapes("calibration", {name: _range(shapes) for name, shapes in build["shapesCalib"].items()}),
    ]


def system_lines(effective: Effective) -> list[str]:
    """``=== System Options ===``; ends with an empty line."""
    core = effective["system.DLACore"]
    return [
        "=== System Options ===",
        f"Device: {effective['system.device']}",
        f"DLACore: {'' if core == -1 else core}",
        _listed("Plugins:", effective["system.plugins"]),
        _listed("setPluginsToSerialize:", effective["system.setPluginsToSerialize"]),
        _listed("dynamicPlugins:", effective["system.dynamicPlugins"]),
        f"ignoreParsedPluginLibs: {int(effective['system.ignoreParsedPluginLibs'])}",
        "",
    ]


def inference_lines(effective: Effective) -> list[str]:
    """``=== Inference Options ===``. The NVTX verbosity is the build's profiling verbosity, as in trtexec."""
    run = {key[len("inference.") :]: value for key, value in effective.items() if key.startswith("inference.")}
    return [
        "=== Inference Options ===",
        f"Batch: {run['batch'] if run['batch'] and not run['shapes'] else 'Explicit'}",
        *_shapes("inference", {name: dimensions(shape) for name, shape in run["shapes"].items()}),
        f"Iterations: {run['iterations']}",
        f"Duration: {_float(run['duration'])}s (+ {_float(run['warmup'])}ms warm up)",
        f"Sleep time: {_float(run['sleep'])}ms",
        f"Idle time: {_float(run['idle'])}ms",
        f"Inference Streams: {run['infStreams']}",
        f"ExposeDMA: {_enabled(not run['overlap'])}",
        f"Data transfers: {_enabled(not run['skipTransfers'])}",
        f"Spin-wait: {_enabled(run['spin'])}",
        f"Multithreading: {_enabled(run['threads'])}",
        f"CUDA Graph: {_enabled(run['graph'])}",
        f"Separate profiling: {_enabled(run['rerun'])}",
        f"Time Deserialize: {_enabled(run['timeDeserialize'])}",
        f"Time Refit: {_enabled(run['timeRefit'])}",
        f"NVTX verbosity: {effective['build.profilingVerbosity']}",
        f"Persistent Cache Ratio: {_float(run['persistentCacheRatio'])}",
        "Inputs:",
        *(f"{name}<-{file}" for name, file in run["inputs"].items()),
    ]


def reporting_lines(effective: Effective) -> list[str]:
    """``=== Reporting Options ===``."""
    return [
        "=== Reporting Options ===",
        f"Verbose: {_enabled(effective['reporting.verbose'])}",
        f"Averages: {effective['reporting.avgs']} inferences",
        f"Percentiles: {','.join(_float(p) for p in effective['reporting.percentiles'])}",
        f"Dump refittable layers:{_enabled(effective['reporting.refit'])}",
        f"Dump output: {_enabled(effective['reporting.output'])}",
        f"Profile: {_enabled(effective['reporting.profile'])}",
        f"Export timing to JSON file: {effective['reporting.exportTimes']}",
        f"Export output to JSON file: {effective['reporting.exportOutput']}",
        f"Export profile to JSON file: {effective['reporting.exportProfile']}",
    ]


def device_lines(device: Mapping[str, object], note: str = "") -> list[str]:
    """``=== Device Information ===``: one ``name: value`` line per known fact, in the given order, and a blank.

    trtexec's names are ``Selected Device``, ``Compute Capability``, ``SMs``, ``Device Global Memory``,
    ``Shared Memory per SM``, ``Memory Bus Width``, ``Application Compute Clock Rate``, ``Application Memory Clock
    Rate``. A value of None or "" is unknown: its line is left out. NVIDIA's log parser reads a number from
    ``Compute Capability``, ``SMs``, ``Memory Bus Width``, ``Compute Clock Rate`` and ``Memory Clock Rate`` and fails
    without one, so a target that has no such number must not use these names.
    """
    lines = ["=== Device Information ==="]
    lines += [f"{name}: {value}" for name, value in device.items() if value is not None and value != ""]
    return [*lines, "", note] if note else [*lines, ""]


def _enabled(value: bool) -> str:
    return "Enabled" if value else "Disabled"


def _float(value: Any) -> str:
    return number(float(value))


def _listed(label: str, values: Sequence[str]) -> str:
    return " ".join([label, *values])


def _memory_pools(build: Effective) -> str:
    def size(pool: str) -> str:
        mebibytes = float(build[pool])  # may be "inf" as text, since JSON has no infinity
        return f"{pool}: {_float(mebibytes)} MiB" if mebibytes >= 0 else f"{pool}: default"

    return ", ".join(size(pool) for pool in ("workspace", "dlaSRAM", "dlaLocalDRAM", "dlaGlobalDRAM"))


def _precision(build: Effective) -> str:
    kinds = ["FP32", *(kind.upper() for kind in ("fp16", "int8", "fp8") if build[kind])]
    return "+".join(kinds) + _CONSTRAINTS[build["precisionConstraints"]]


def _tempfile_controls(bits: int) -> str:
    in_memory, temporary = ("allow" if bits & bit else "deny" for bit in (1, 2))
    return f"{{ in_memory: {in_memory}, temporary: {temporary} }}"


def _tactic_sources(enabled: int, disabled: int) -> str:
    if not enabled and not disabled:
        return "Using default tactic sources"
    states = [(name, enabled >> bit & 1, disabled >> bit & 1) for bit, name in enumerate(_TACTICS)]
    return "".join(f"{name} [{'ON' if on else 'OFF'}], " for name, on, off in states if on or off)


def _preview_features(features: Mapping[str, bool]) -> str:
    if not features:
        return "Use default preview flags."
    given = [(name, features[str(bit)]) for bit, name in enumerate(_PREVIEWS) if str(bit) in features]
    return "".join(f"{name} [{'ON' if on else 'OFF'}], " for name, on in given)


def _io_formats(direction: str, formats: Sequence[str]) -> list[str]:
    return [f"{direction}: {entry}" for entry in formats] or [f"{direction}s format: fp32:CHW"]


def _range(shapes: Mapping[str, Sequence[int]]) -> str:
    """``min+opt+max``, ended by the first empty one."""
    parts: list[str] = []
    for kind in ("min", "opt", "max"):
        if not shapes[kind]:
            break
        parts.append(dimensions(shapes[kind]))
    return "+".join(parts)


def _shapes(phase: str, shapes: Mapping[str, str]) -> list[str]:
    return [f"Input {phase} shape: {name}={text}" for name, text in shapes.items()] or [f"Input {phase} shapes: model"]
