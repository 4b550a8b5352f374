"""The calls of a plan in the order in which trtexec makes them, around those that are always made.

Order: NVIDIA/TensorRT samples/common/sampleEngines.cpp (setupNetworkAndConfig) and sampleInference.cpp, v8.6.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ptqbridge.backends.tensorrt.context import Context

ORDER = (
    "import ",
    r"cuda\.Device",
    r"ctypes\.CDLL",
    "logger = ",
    r"trt\.init_libnvinfer_plugins",
    "builder = ",
    r"builder\.get_plugin_registry",
    "network = ",
    "parser = ",
    r"parser\.(set|clear)_flag",
    r"parser\.set_builder_config",
    r"parser\.parse_from_file",
    "config = ",
    "profile = ",
    r"profile\d+ = ",
    r"network\.get_(input|output)\(.*\)\.dtype",
    r"network\.get_(input|output)\(.*\)\.allowed_formats",
    r"network\.mark",
    r"attentions\[",
    r"config\.set_flag\(trt\.BuilderFlag\.(SPARSE_WEIGHTS|DISABLE_TIMING_CACHE)\)",
    r"config\.builder_optimization_level",
    r"config\.set_memory_pool_limit\(trt\.MemoryPoolType\.WORKSPACE",
    r"config\.set_flag\(trt\.BuilderFlag\.(REFIT|STRIP_PLAN)\)",
    r"profile\.set_shape",
    r"config\.add_optimization_profile\(profile\)",
    r"config\.add_optimization_profile",
    r"config\.set_flag\(trt\.BuilderFlag\.(VERSION_COMPATIBLE|EXCLUDE_LEAN_RUNTIME)\)",
    r"config\.set_memory_pool_limit",
    r"config\.profiling_verbosity",
    r"config\.min_timing_iterations",
    r"config\.avg_timing_iterations",
    r"config\.(default_device_type|DLA_core)",
    r"config\.set_flag\(trt\.BuilderFlag\.(GPU_FALLBACK|DIRECT_IO)\)",
    r"config\.set_flag\(trt\.BuilderFlag\.(?!\w+_PRECISION_CONSTRAINTS)",
    r"config\.clear_flag",
    r"tensor\.set_dynamic_range",
    r"calibration_profile",
    r"config\.set_calibration_profile",
    r"config\.int8_calibrator",
    r"config\.set_tactic_sources",
    r"timing_cache = ",
    r"config\.set_timing_cache",
    r"config\.set_flag\(trt\.BuilderFlag\.\w+_PRECISION_CONSTRAINTS\)",
    r"layers\[.*\.precision",
    r"layers\[.*\.set_output_type",
    r"config\.set_device_type",
    r"config\.set_preview_feature",
    r"config\.hardware_compatibility_level",
    r"config\.profile_stream",
    r"config\.",
    "engine_bytes = ",
    r"merge_timing_cache",
    r"Path\(",
    "runtime = trt",
    "runtime = ",
    r"runtime\.temporary_directory",
    r"runtime\.engine_host_code_allowed",
    r"runtime\.tempfile_control_flags",
    r"runtime\.",
    "engine = ",
    r"trt\.Refitter|inspector",
    r"refitter = ",
    r"trt\.OnnxParserRefitter",
    r"refitter\.",
    r"engine\.(weight_streaming|get_tensor_profile)",
    r"context = |contexts = |engine\.create_execution_context",
    r"context\.nvtx_verbosity",
    r"context\.persistent_cache_limit",
    r"context\.set_device_memory",
    r"context\.set_optimization_profile_async",
    r"context\.set_input_shape",
    r"context\.(set_debug|set_tensor_debug|set_all)",
    r"context\.profiler",
    r"context\.enqueue_emits_profile",
    r"context\.set_tensor_address",
    r"context\.execute_async_v3",
    r"context\.",
)
"""What a call begins with, in trtexec's order of calls."""

EARLIER = (
    # trtexec sets this flag with the DLA core, else with the per-layer precisions.
    ("config.set_flag(trt.BuilderFlag.PREFER_PRECISION_CONSTRAINTS)", "config.DLA_core", "config.DLA_core"),
    # The configuration has to exist before the parser is told of it.
    ("config = builder.create_builder_config()", "parser = ", "parser.set_builder_config"),
)
"""A call, the earlier one it follows, and the call whose presence is the reason."""

_PATTERNS = tuple(re.compile(pattern) for pattern in ORDER)
_ASSIGNED = re.compile(r"([\w.\[\]()\"]+) = ")


def always(context: Context) -> tuple[str, ...]:
    """The calls that every plan makes, whatever options were given."""
    calls = [
        "import tensorrt as trt",
        "cuda.Device(0).retain_primary_context().push()",
        "logger = trt.Logger(trt.Logger.INFO)",
    ]
    if not context.gave("versionCompatible") and not _other_runtime(context):
        calls.append('trt.init_libnvinfer_plugins(logger, "")')
    if not context.loads:
        calls += _building(context)
    calls += _loading(context)
    return tuple(calls)


def _other_runtime(context: Context) -> bool:
    return any(kind in ("lean", "dispatch") for kind in context.values("useRuntime"))


def _building(context: Context) -> list[str]:
    old = context.generation == "8.6"
    network = "EXPLICIT_BATCH" if old else "STRONGLY_TYPED" if context.strong else ""
    creation = f"1 << int(trt.NetworkDefinitionCreationFlag.{network})" if network else "0"
    calls = [
        "builder = trt.Builder(logger)",
        f"network = builder.create_network({creation})",
        "parser = trt.OnnxParser(network, logger)",
        "config = builder.create_builder_config()",
        "profile = builder.create_optimization_profile()",
        "config.profiling_verbosity = trt.ProfilingVerbosity.LAYER_NAMES_ONLY",
        "config.avg_timing_iterations = 8",
        "config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.NONE",
        "config.profile_stream = int(stream.handle)",
        "engine_bytes = builder.build_serialized_network(network, config)",
    ]
    if old:
        calls.append("config.min_timing_iterations = 1")
        if not context.request.build.input_formats:
            calls.append("network.get_input(i).dtype = trt.float32")
            calls.append("network.get_input(i).allowed_formats = 1 << int(trt.TensorFormat.LINEAR)")
        if not context.request.build.output_formats:
            calls.append("network.get_output(i).allowed_formats = 1 << int(trt.TensorFormat.LINEAR)")
    if context.made_up and not context.strong:
        calls.append("tensor.set_dynamic_range(-bound, bound)")
    return calls


def _loading(context: Context) -> list[str]:
    calls = [
        "runtime = trt.Runtime(logger)",
        "runtime.tempfile_control_flags = 1 << int(trt.TempfileControlFlag.ALLOW_IN_MEMORY_FILES)"
        " | 1 << int(trt.TempfileControlFlag.ALLOW_TEMPORARY_FILES)",
    ]
    if not context.loads:
        calls.append("engine = runtime.deserialize_cuda_engine(engine_bytes)")
    if context.runs and not context.request.run.time_load:
        if context.request.run.streams == 1:
            calls.append("context = engine.create_execution_context()")
        calls += [
            "context.nvtx_verbosity = trt.ProfilingVerbosity.LAYER_NAMES_ONLY",
            "context.persistent_cache_limit = 0",
            "context.set_tensor_address(name, address)",
            "context.execute_async_v3(stream.handle)",
        ]
    return calls


def arrange(defaults: Iterable[str], asked: Iterable[str]) -> tuple[str, ...]:
    """Defaults overridden by what was asked, each once, in trtexec's order; calls of one kind keep their order."""
    chosen: dict[str, str] = {}
    for text in (*defaults, *asked):
        chosen[_target(text)] = text
    ordered = sorted(chosen.values(), key=_position)
    for text, leader, reason in EARLIER:
        place = next((index for index, other in enumerate(ordered) if other.startswith(leader)), None)
        if text in ordered and place is not None and any(other.startswith(reason) for other in ordered):
            ordered.remove(text)
            ordered.insert(place + 1, text)
    return tuple(ordered)


def _target(text: str) -> str:
    """What a call settles: the assigned name, or the whole call."""
    for once in ("import ", "cuda.Device"):
        if text.startswith(once):
            return once
    found = _ASSIGNED.match(text)
    return found.group(1) if found and not text.startswith("runtime = ") else text


def _position(text: str) -> int:
    return next((index for index, pattern in enumerate(_PATTERNS) if pattern.match(text)), len(_PATTERNS))
