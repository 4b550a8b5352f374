"""Option values after all fill-in, under flat names, as trtexec 8.6.1 holds them in its option structures.

The names are ``group.field`` of ``ModelOptions``, ``BuildOptions``, ``SystemOptions``, ``InferenceOptions`` and
``ReportingOptions`` in NVIDIA/TensorRT samples/common/sampleOptions.h, tag v8.6.1; enumerations are their numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ptqbridge.options.checks import model_format
from ptqbridge.options.given import GivenOptions
from ptqbridge.options.shapes import plan_shapes
from ptqbridge.options.values import FORMATS
from ptqbridge.spec import IOFormat, ShapeRange

_TACTICS = ("CUBLAS", "CUBLAS_LT", "CUDNN", "EDGE_MASK_CONVOLUTIONS", "JIT_CONVOLUTIONS")
_PREVIEWS = {
    "fasterDynamicShapes0805": "0",
    "disableExternalTacticSourcesForCore0805": "1",
    "profileSharing0806": "2",
}
_FORMAT_BITS = {name: bit for bit, name in enumerate(FORMATS)} | {"dhwc": 12}

DEFAULTS: Mapping[str, Any] = {
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
    "build.heuristic": False,
    "build.tf32": True,
    "build.fp16": False,
    "build.int8": False,
    "build.fp8": False,
    "build.calibration": "",
    "build.directIO": False,
    "build.precisionConstraints": 0,
    "build.layerPrecisions": {},
    "build.layerOutputTypes": {},
    "build.layerDeviceTypes": {},
    "build.safe": False,
    "build.buildDLAStandalone": False,
    "build.allowGPUFallback": False,
    "build.consistency": False,
    "build.restricted": False,
    "build.skipInference": False,
    "build.save": False,
    "build.load": False,
    "build.engine": "",
    "build.refit": False,
    "build.versionCompatible": False,
    "build.excludeLeanRuntime": False,
    "build.builderOptimizationLevel": -1,
    "build.sparsity": 0,
    "build.profilingVerbosity": 0,
    "build.shapes": {},
    "build.shapesCalib": {},
    "build.inputFormats": [],
    "build.outputFormats": [],
    "build.enabledTactics": 0,
    "build.disabledTactics": 0,
    "build.timingCacheMode": 1,
    "build.timingCacheFile": "",
    "build.previewFeatures": {},
    "build.hardwareCompatibilityLevel": 0,
    "build.tempdir": "",
    "build.tempfileControls": 3,
    "build.useRuntime": 0,
    "build.leanDLLPath": "",
    "build.maxAuxStreams": -1,
    "system.device": 0,
    "system.DLACore": -1,
    "system.ignoreParsedPluginLibs": False,
    "system.plugins": [],
    "system.setPluginsToSerialize": [],
    "system.dynamicPlugins": [],
    "inference.batch": 0,
    "inference.iterations": 10,
    "inference.infStreams": 1,
    "inference.warmup": 200,
    "inference.duration": 3,
    "inference.sleep": 0,
    "inference.idle": 0,
    "inference.persistentCacheRatio": 0,
    "inference.overlap": True,
    "inference.skipTransfers": False,
    "inference.useManaged": False,
    "inference.spin": False,
    "inference.threads": False,
    "inference.graph": False,
    "inference.rerun": False,
    "inference.timeDeserialize": False,
    "inference.timeRefit": False,
    "inference.inputs": {},
    "inference.shapes": {},
    "reporting.verbose": False,
    "reporting.avgs": 10,
    "reporting.percentiles": [90, 95, 99],
    "reporting.refit": False,
    "reporting.output": False,
    "reporting.dumpRawBindings": False,
    "reporting.profile": False,
    "reporting.layerInfo": False,
    "reporting.exportTimes": "",
    "reporting.exportOutput": "",
    "reporting.exportProfile": "",
    "reporting.exportLayerInfo": "",
}
"""What ``trtexec --onnx=m.onnx`` ends up with."""

_FLAGS = {
    "model.uffNHWC": ("uffNHWC",),
    "build.heuristic": ("heuristic",),
    "build.fp16": ("fp16", "best"),
    "build.int8": ("int8", "best"),
    "build.fp8": ("fp8",),
    "build.directIO": ("directIO",),
    "build.safe": ("safe",),
    "build.allowGPUFallback": ("allowGPUFallback",),
    "build.consistency": ("consistency",),
    "build.restricted": ("restricted",),
    "build.save": ("saveEngine",),
    "build.load": ("loadEngine",),
    "build.refit": ("refit",),
    "build.excludeLeanRuntime": ("excludeLeanRuntime",),
    "system.ignoreParsedPluginLibs": ("ignoreParsedPluginLibs",),
    "inference.skipTransfers": ("noDataTransfers",),
    "inference.useManaged": ("useManagedMemory",),
    "inference.spin": ("useSpinWait",),
    "inference.threads": ("threads",),
    "inference.graph": ("useCudaGraph",),
    "inference.rerun": ("separateProfileRun",),
    "inference.timeDeserialize": ("timeDeserialize",),
    "inference.timeRefit": ("timeRefit",),
    "reporting.verbose": ("verbose",),
    "reporting.refit": ("dumpRefit",),
    "reporting.output": ("dumpOutput",),
    "reporting.dumpRawBindings": ("dumpRawBindingsToFile",),
    "reporting.profile": ("dumpProfile",),
    "reporting.layerInfo": ("dumpLayerInfo",),
}
_PLAIN = {
    "build.maxBatch": "maxBatch",
    "build.minTiming": "minTiming",
    "build.avgTiming": "avgTiming",
    "build.calibration": "calib",
    "build.builderOptimizationLevel": "builderOptimizationLevel",
    "build.timingCacheFile": "timingCacheFile",
    "build.tempdir": "tempdir",
    "build.leanDLLPath": "leanDLLPath",
    "build.maxAuxStreams": "maxAuxStreams",
    "build.layerDeviceTypes": "layerDeviceTypes",
    "system.device": "device",
    "system.DLACore": "useDLACore",
    "inference.batch": "batch",
    "inference.iterations": "iterations",
    "inference.warmup": "warmUp",
    "inference.duration": "duration",
    "inference.sleep": "sleepTime",
    "inference.idle": "idleTime",
    "inference.persistentCacheRatio": "persistentCacheRatio",
    "inference.inputs": "loadInputs",
    "reporting.avgs": "avgRuns",
    "reporting.percentiles": "percentile",
    "reporting.exportTimes": "exportTimes",
    "reporting.exportOutput": "exportOutput",
    "reporting.exportProfile": "exportProfile",
    "reporting.exportLayerInfo": "exportLayerInfo",
}
_ENUMS = {
    "build.precisionConstraints": ("precisionConstraints", ("none", "obey", "prefer")),
    "build.sparsity": ("sparsity", ("disable", "enable", "force")),
    "build.useRuntime": ("useRuntime", ("full", "dispatch", "lean")),
    "build.hardwareCompatibilityLevel": (
        "hardwareCompatibilityLevel",
        ("none", "ampere+", "sameComputeCapability"),
    ),
}


def effective(options: GivenOptions) -> dict[str, Any]:
    """Every flat name with its value after fill-in, ready for JSON."""
    values = dict(DEFAULTS)
    values.update({name: options.has(*flags) for name, flags in _FLAGS.items()})
    values.update({name: options.value(option) for name, option in _PLAIN.items()})
    values.update({name: words.index(options.value(option)) for name, (option, words) in _ENUMS.items()})
    values.update(_model(options))
    values.update(_shapes(options))
    values.update(_memory(options))
    values.update(_precision(options))
    values.update(_build(options))
    values.update(_system(options))
    return {name: _json(value) for name, value in values.items()}


def changed(options: GivenOptions) -> dict[str, Any]:
    """Only the flat names whose value differs from ``DEFAULTS``."""
    return {name: value for name, value in effective(options).items() if value != DEFAULTS.get(name)}


def _model(options: GivenOptions) -> dict[str, Any]:
    kind = model_format(options)
    path = options.value({"onnx": "onnx", "uff": "uff", "caffe": "model", "none": "onnx"}[kind])
    values: dict[str, Any] = {
        "model.format": {"onnx": "onnx", "none": "any"}.get(kind, "other"),
        "model.model": path,
        "model.prototxt": options.value("deploy"),
        "model.outputs": [name for names in options.value("output") for name in names],
        "model.uffInputs": [list(entry) for entry in options.value("uffInput")],
    }
    if values["model.format"] == "other":
        values["model.format2"] = kind
    return values


def _shapes(options: GivenOptions) -> dict[str, Any]:
    shapes = plan_shapes(options)
    values: dict[str, Any] = {
        "build.shapes": {name: _range(shape) for name, shape in shapes.build.items()},
        "build.shapesCalib": {name: _range(shape) for name, shape in shapes.calibration.items()},
        "inference.shapes": dict(shapes.run),
    }
    if model_format(options) != "onnx" and not shapes.build:
        batch = options.value("batch") or 1
        values |= {"inference.batch": batch, "build.maxBatch": options.value("maxBatch") or batch}
    return values


def _range(shape: ShapeRange) -> dict[str, Any]:
    return {"min": shape.min, "opt": shape.opt, "max": shape.max}


def _memory(options: GivenOptions) -> dict[str, Any]:
    pools = options.value("memPoolSize")
    values = {f"build.{pool}": size for pool, size in pools.items() if pool != "tacticSharedMem"}
    values.setdefault("build.workspace", options.value("workspace"))
    return values


def _precision(options: GivenOptions) -> dict[str, Any]:
    return {
        "build.tf32": "noTF32" not in options,
        "build.layerPrecisions": {layer: types[0] for layer, types in options.value("layerPrecisions").items()},
        "build.layerOutputTypes": options.value("layerOutputTypes"),
        "build.inputFormats": [_format(entry) for entry in options.value("inputIOFormats")],
        "build.outputFormats": [_format(entry) for entry in options.value("outputIOFormats")],
    }


def _format(entry: IOFormat) -> str:
    """As trtexec prints it: a plus sign in front of every layout but chw (``fp16:+hwc8``)."""
    layouts = sorted(entry.layouts, key=_FORMAT_BITS.__getitem__)
    return f"{entry.dtype}:" + "".join(name if name == "chw" else f"+{name}" for name in layouts)


def _build(options: GivenOptions) -> dict[str, Any]:
    standalone = options.has("buildDLAStandalone") or (options.has("safe") and options.value("useDLACore") >= 0)
    cache = options.value("timingCacheFile")
    detail = options.value("profilingVerbosity" if "profilingVerbosity" in options else "nvtxMode")
    tactics: dict[str, bool] = options.value("tacticSources")
    enabled = sum(1 << _TACTICS.index(name) for name, on in tactics.items() if on)
    disabled = sum(1 << _TACTICS.index(name) for name, on in tactics.items() if not on)
    files: dict[str, bool] = {"in_memory": True, "temporary": True} | options.value("tempfileControls")
    return {
        "build.buildDLAStandalone": standalone,
        "build.skipInference": standalone or options.has("skipInference", "buildOnly"),
        "build.engine": options.value("saveEngine") or options.value("loadEngine"),
        "build.versionCompatible": options.has("versionCompatible") or options.value("useRuntime") != "full",
        "build.profilingVerbosity": {"none": 1, "detailed": 2}.get(detail, 0),
        "build.enabledTactics": enabled,
        "build.disabledTactics": disabled,
        "build.timingCacheMode": 0 if "noBuilderCache" in options else 2 if cache else 1,
        "build.previewFeatures": {_PREVIEWS.get(name, name): on for name, on in options.value("preview").items()},
        "build.tempfileControls": files["in_memory"] + 2 * files["temporary"],
    }


def _system(options: GivenOptions) -> dict[str, Any]:
    return {
        "system.plugins": [*options.value("plugins"), *options.value("staticPlugins")],
        "system.setPluginsToSerialize": options.value("setPluginsToSerialize"),
        "system.dynamicPlugins": options.value("dynamicPlugins"),
        "inference.infStreams": options.value("infStreams" if "infStreams" in options else "streams"),
        "inference.overlap": "exposeDMA" not in options,
    }


def _json(value: Any) -> Any:
    """JSON form: tuples as lists, whole floats as ints, infinity as the text ``inf``."""
    if isinstance(value, dict):
        return {name: _json(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json(item) for item in value]
    if isinstance(value, float):
        if math.isinf(value):
            return "inf" if value > 0 else "-inf"
        return int(value) if value.is_integer() else value
    return value
