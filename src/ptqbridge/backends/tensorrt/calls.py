"""The calls of a plan in the order in which trtexec makes them, around those that are always made.

Order: NVIDIA/TensorRT samples/common/sampleEngines.cpp (setupNetworkAndConfig) and sampleInference.cpp, v8.6.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from ptqbridge.backends.tensorrt.context import Context
from ptqbridge.backends.tensorrt.rules.build import POOLS
from ptqbridge.backends.tensorrt.rules.network import calibration_calls

DLA = "<dla>"
"""Where the calls of ``--useDLACore`` stand, in their own order."""
ORDER = (
    "import ",
    "device = ",
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
    "parser_plugins = ",
    r"load_plugins\(builder",
    "config = ",
    "profile = ",
    r"network\.get_input|profile\.set_shape|set_input_range\(profile,|require_valid\(profile\)"
    r"|config\.add_optimization_profile\(profile\)",
    r"profile\d+ = ",
    r"profile\d+\.set_shape|set_input_range\(profile\d|require_valid\(profile\d"
    r"|config\.add_optimization_profile\(profile\d",
    r"config\.add_optimization_profile",
    r"network\.get_output",
    *(rf"config\.set_memory_pool_limit\(trt\.MemoryPoolType\.{pool}," for pool in POOLS.values()),
    r"config\.set_preview_feature",
    r"config\.set_flag\(trt\.BuilderFlag\.ENABLE_TACTIC_HEURISTIC",
    r"config\.builder_optimization_level",
    r"config\.max_num_tactics",
    *(
        rf"config\.set_flag\(trt\.BuilderFlag\.{flag}\)"
        for flag in ("DISABLE_TIMING_CACHE", "DISABLE_COMPILATION_CACHE", "ERROR_ON_TIMING_CACHE_MISS")
    ),
    r"config\.clear_flag",
    r"config\.set_flag\(trt\.BuilderFlag\.REFIT",
    r"config\.set_flag\(trt\.BuilderFlag\.STRIP_PLAN\)",
    r"config\.set_flag\(trt\.BuilderFlag\.VERSION_COMPATIBLE\)",
    r"config\.plugins_to_serialize|serialize_plugins",
    *(
        rf"config\.set_flag\(trt\.BuilderFlag\.{flag}\)"
        for flag in ("EXCLUDE_LEAN_RUNTIME", "SPARSE_WEIGHTS", "MONITOR_MEMORY", "DISTRIBUTIVE_INDEPENDENCE")
    ),
    r"config\.profiling_verbosity",
    r"config\.min_timing_iterations",
    r"config\.avg_timing_iterations",
    *(rf"config\.set_flag\(trt\.BuilderFlag\.{flag}\)" for flag in ("FP16", "INT8", "BF16", "FP8", "INT4")),
    "allow_bf16",
    r"set_made_up_ranges",
    r"set_io_ranges",
    r"calibration_profile|require_valid\(calibration_profile",
    r"config\.set_calibration_profile",
    r"config\.int8_calibrator",
    r"config\.set_flag\(trt\.BuilderFlag\.DIRECT_IO\)",
    r"config\.set_flag\(trt\.BuilderFlag\.\w+_PRECISION_CONSTRAINTS\)",
    r"set_layer_precisions",
    r"set_layer_output_types",
    r"set_layer_devices",
    r"make_decomposable",
    r"mark_debug",
    r"network\.mark",
    r"config\.set_flag\(trt\.BuilderFlag\.SAFETY_SCOPE\)",
    DLA,
    r"config\.set_tactic_sources",
    r"config\.hardware_compatibility_level",
    r"config\.runtime_platform",
    r"config\.max_aux_streams",
    r"config\.set_flag",
    r"config\.tiling_optimization_level",
    r"config\.l2_limit_for_tiling",
    r"timing_cache = ",
    r"config\.set_timing_cache",
    "stream = ",
    r"config\.profile_stream",
    r"config\.",
    "engine_bytes = ",
    r"merge_timing_cache",
    r"write_engine",
    "runtime = trt",
    "runtime = ",
    r"runtime\.engine_host_code_allowed",
    r"runtime\.temporary_directory",
    r"runtime\.tempfile_control_flags",
    r"runtime\.DLA_core",
    r"runtime\.",
    r"load_plugins\(runtime",
    "engine = ",
    r"trt\.Refitter|inspector",
    r"refitter = ",
    r"trt\.OnnxParserRefitter",
    r"refitter\.",
    r"engine\.(weight_streaming|get_tensor_profile)",
    r"context = |engine\.create_execution_context",
    r"context\.nvtx_verbosity",
    r"context\.persistent_cache_limit",
    r"context\.set_optimization_profile_async",
    r"context\.set_input_shape",
    r"context\.(set_debug|set_tensor_debug|set_all|unfused)",
    r"memory = |context\.(set_)?device_memory",
    r"context\.profiler",
    r"context\.enqueue_emits_profile",
    r"context\.set_tensor_address",
    r"context\.execute_async_v3",
    r"context\.",
)
"""What a call begins with, in trtexec's order of calls; those of 10 stand where v10.13.3 has them."""

EARLIER = (
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
        "device = open_device(0)",
        "logger = message_log(trt)",
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
        "stream = device.stream()",
        "config.profile_stream = stream.handle",
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
        calls.append("set_made_up_ranges(trt, network)")
    calibration = context.request.build.calibration
    if (
        context.gave("int8", "best")
        and (calibration.cache or context.native)
        and not context.strong
        and calibration.shapes
    ):
        calls += calibration_calls({name: shape.opt for name, shape in calibration.shapes.items()})
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
        calls += [
            "context = engine.create_execution_context()",
            "context.nvtx_verbosity = trt.ProfilingVerbosity.LAYER_NAMES_ONLY",
            "context.persistent_cache_limit = 0",
            "context.set_tensor_address(name, address)",
            "context.execute_async_v3(stream.handle)",
        ]
    return calls


def arrange(defaults: Iterable[str], asked: Iterable[str], dla: Iterable[str] = ()) -> tuple[str, ...]:
    """Defaults overridden by what was asked, each once, in trtexec's order; calls of one kind keep their order.

    ``dla`` are the calls for a DLA core; a flag among them that others set too is set where the others set it.
    """
    chosen: dict[str, str] = {}
    for text in (*defaults, *asked):
        chosen[_target(text)] = text
    block = [text for text in dict.fromkeys(dla) if text not in chosen.values()]
    placed = [(_position(text), text) for text in chosen.values()]
    placed += [(ORDER.index(DLA), text) for text in sorted(block, key=_dla_position)]
    ordered = [text for _, text in sorted(placed, key=lambda pair: pair[0])]
    for text, leader, reason in EARLIER:
        place = next((index for index, other in enumerate(ordered) if other.startswith(leader)), None)
        if text in ordered and place is not None and any(other.startswith(reason) for other in ordered):
            ordered.remove(text)
            ordered.insert(place + 1, text)
    return tuple(ordered)


def _dla_position(text: str) -> int:
    parts = ("require_dla", "default_device", "DLA_core", "PREFER_", "engine_capability", "GPU_FALLBACK", "DIRECT_IO")
    return next((index for index, part in enumerate(parts) if part in text), len(parts))


def _target(text: str) -> str:
    """What a call settles: the assigned name, or the whole call."""
    if text.startswith("import "):
        return "import "
    found = _ASSIGNED.match(text)
    return found.group(1) if found and not text.startswith("runtime = ") else text


def _position(text: str) -> int:
    return next((index for index, pattern in enumerate(_PATTERNS) if pattern.match(text)), len(_PATTERNS))
