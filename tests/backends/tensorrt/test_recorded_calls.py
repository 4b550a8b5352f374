"""Agreement with the calls that the real trtexec 8.6.1 made, option set by option set, in their order.

The plan is carried out on the stand-in module; what that records is compared with the recording, after the rows of
docs/differences.md that are named here are applied to both. Our own records (tests/cases) were made by samples/trtexec
of NVIDIA/TensorRT v8.6.1, compiled against libraries that only record; others come from ``$PTQBRIDGE_CASES``, else
from ``shared/cases`` beside the checkout.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ptqbridge.backends.tensorrt.build import build
from ptqbridge.backends.tensorrt.measure import run
from ptqbridge.backends.tensorrt.plan import plan
from ptqbridge.errors import PtqbridgeError
from ptqbridge.execute import refuse
from ptqbridge.options.differences import BY_ROW
from ptqbridge.options.parse import parse
from ptqbridge.options.tospec import build_spec, run_spec
from ptqbridge.plan import Asked, Plan, Request, Target

RECORDS = "trtexec-calls-8.6.1.jsonl"
RUN = "CudaEngine.createExecutionContext"
MADE_READY = (RUN, "ExecutionContext.setNvtx", "ExecutionContext.setPersistent", "ExecutionContext.setInput")

NAMES = {
    "init_libnvinfer_plugins": "global.initLibNvInferPlugins",
    "Builder": "global.createInferBuilder",
    "OnnxParser": "global.createNvOnnxParser",
    "Runtime": "global.createInferRuntime",
    "Builder.create_network": "Builder.createNetworkV2",
    "Builder.create_builder_config": "Builder.createBuilderConfig",
    "Builder.create_optimization_profile": "Builder.createOptimizationProfile",
    "Builder.build_serialized_network": "Builder.buildSerializedNetwork",
    "OnnxParser.parse_from_file": "OnnxParser.parseFromFile",
    "OnnxParser.set_flag": "OnnxParser.setFlags",
    "OnnxParser.get_used_vc_plugin_libraries": "OnnxParser.getUsedVCPluginLibraries",
    "IOptimizationProfile.__bool__": "OptimizationProfile.isValid",
    "IBuilderConfig.add_optimization_profile": "BuilderConfig.addOptimizationProfile",
    "IBuilderConfig.set_calibration_profile": "BuilderConfig.setCalibrationProfile",
    "IBuilderConfig.set_flag": "BuilderConfig.setFlag",
    "IBuilderConfig.clear_flag": "BuilderConfig.clearFlag",
    "IBuilderConfig.set_memory_pool_limit": "BuilderConfig.setMemoryPoolLimit",
    "IBuilderConfig.set_tactic_sources": "BuilderConfig.setTacticSources",
    "IBuilderConfig.set_preview_feature": "BuilderConfig.setPreviewFeature",
    "IBuilderConfig.set_device_type": "BuilderConfig.setDeviceType",
    "IBuilderConfig.create_timing_cache": "BuilderConfig.createTimingCache",
    "IBuilderConfig.set_timing_cache": "BuilderConfig.setTimingCache",
    "IBuilderConfig.get_timing_cache": "BuilderConfig.getTimingCache",
    "ITimingCache.combine": "TimingCache.combine",
    "ITimingCache.serialize": "TimingCache.serialize",
    "IBuilderConfig.profiling_verbosity=": "BuilderConfig.setProfilingVerbosity",
    "IBuilderConfig.min_timing_iterations=": "BuilderConfig.setMinTimingIterations",
    "IBuilderConfig.avg_timing_iterations=": "BuilderConfig.setAvgTimingIterations",
    "IBuilderConfig.builder_optimization_level=": "BuilderConfig.setBuilderOptimizationLevel",
    "IBuilderConfig.hardware_compatibility_level=": "BuilderConfig.setHardwareCompatibilityLevel",
    "IBuilderConfig.max_aux_streams=": "BuilderConfig.setMaxAuxStreams",
    "IBuilderConfig.plugins_to_serialize=": "BuilderConfig.setPluginsToSerialize",
    "IBuilderConfig.profile_stream=": "BuilderConfig.setProfileStream",
    "IBuilderConfig.int8_calibrator=": "BuilderConfig.setInt8Calibrator",
    "IBuilderConfig.default_device_type=": "BuilderConfig.setDefaultDeviceType",
    "IBuilderConfig.DLA_core=": "BuilderConfig.setDLACore",
    "IBuilderConfig.engine_capability=": "BuilderConfig.setEngineCapability",
    "IPluginRegistry.load_library": "PluginRegistry.loadLibrary",
    "Calibrator.read_calibration_cache": "Calibrator.readCalibrationCache",
    "ITensor.dtype=": "Tensor.setType",
    "ITensor.allowed_formats=": "Tensor.setAllowedFormats",
    "ITensor.set_dynamic_range": "Tensor.setDynamicRange",
    "ILayer.precision=": "Layer.setPrecision",
    "ILayer.set_output_type": "Layer.setOutputType",
    "Runtime.load_runtime": "Runtime.loadRuntime",
    "Runtime.engine_host_code_allowed=": "Runtime.setEngineHostCodeAllowed",
    "Runtime.temporary_directory=": "Runtime.setTemporaryDirectory",
    "Runtime.tempfile_control_flags=": "Runtime.setTempfileControlFlags",
    "Runtime.DLA_core=": "Runtime.setDLACore",
    "Runtime.deserialize_cuda_engine": "Runtime.deserializeCudaEngine",
    "ICudaEngine.create_execution_context": RUN,
    "IExecutionContext.nvtx_verbosity=": "ExecutionContext.setNvtxVerbosity",
    "IExecutionContext.persistent_cache_limit=": "ExecutionContext.setPersistentCacheLimit",
    "IExecutionContext.set_input_shape": "ExecutionContext.setInputShape",
    "IExecutionContext.set_tensor_address": "ExecutionContext.setTensorAddress",
    "IExecutionContext.execute_async_v3": "ExecutionContext.enqueueV3",
    "IExecutionContext.profiler=": "ExecutionContext.setProfiler",
    "IExecutionContext.enqueue_emits_profile=": "ExecutionContext.setEnqueueEmitsProfile",
    "IExecutionContext.report_to_profiler": "ExecutionContext.reportToProfiler",
}
"""Our Python calls and the C++ calls of the recording."""
MASKS = {"Tensor.setAllowedFormats": "TensorFormat", "Runtime.setTempfileControlFlags": "TempfileControlFlag"}
MASKS |= {"Builder.createNetworkV2": "NetworkDefinitionCreationFlag", "BuilderConfig.setTacticSources": "TacticSource"}
NO_ARGUMENTS = frozenset(
    {
        *("global.createInferBuilder", "global.createNvOnnxParser", "global.createInferRuntime"),
        *("OnnxParser.parseFromFile", "Builder.buildSerializedNetwork", "Runtime.deserializeCudaEngine"),
        *("BuilderConfig.setProfileStream", "BuilderConfig.setInt8Calibrator", "BuilderConfig.addOptimizationProfile"),
        *("BuilderConfig.setCalibrationProfile", "Calibrator.readCalibrationCache", "BuilderConfig.createTimingCache"),
        *("BuilderConfig.setTimingCache", "TimingCache.combine", "TimingCache.serialize"),
        *("ExecutionContext.enqueueV3", "ExecutionContext.setProfiler"),
    }
)
"""Versions, pointers and sizes differ, or are the same number in other clothes."""


def since(name: str, calls: list[list[Any]]) -> list[list[Any]]:
    """The calls after the last one of this name."""
    last = max((index for index, call in enumerate(calls) if call[0] == name), default=-1)
    return calls[last + 1 :]


ROWS: dict[str, Callable[[list[Any], list[list[Any]]], bool]] = {
    "error-recorder": lambda call, before: call[0].endswith(".setErrorRecorder"),
    "implicit-batch-query": lambda call, before: call[0] == "CudaEngine.hasImplicitBatchDimension",
    "calib-missing": lambda call, before: call[0] in ("Calibrator.getBatch", "Calibrator.batches"),
    "repeated-flag": lambda call, before: (
        call[0] in ("BuilderConfig.setFlag", "PluginRegistry.loadLibrary")
        and call in since("global.createInferRuntime", before)
    ),
    "pruned-onnx": lambda call, before: call[0].endswith(".setKernelWeights") or call[0] == "ConstantLayer.setWeights",
    "empty-plugin-path": lambda call, before: (
        call in (["PluginRegistry.loadLibrary", ""], ["BuilderConfig.setPluginsToSerialize", [""]])
    ),
    "inspector-runtime": lambda call, before: call[0] == "global.createInferRuntime" and call in before,
    "timing-cache-builder": lambda call, before: (
        ["BuilderConfig.getTimingCache"] in before
        and call[0] in ("global.createInferBuilder", "Builder.createBuilderConfig", "BuilderConfig.createTimingCache")
    ),
}
"""By row of docs/differences.md: whether it says that this call of trtexec, or of ours, is one that the other lacks."""
EXCUSED: dict[str, Callable[[str], object]] = {
    "pool-unit": re.compile(r"--memPoolSize=\S*[0-9][A-Za-z]").search,
    "negative-dla": re.compile(r"--useDLACore=-([2-9]|1\d)").search,
    "later-types": re.compile(r"IOFormats=\S*(hwc16|bool|uint8)").search,
    "captured-profile": re.compile(r"(?=.*--useCudaGraph)(?=.*--(dump|export)Profile)").match,
    "timed-loads": re.compile(r"--timeDeserialize").search,
}
"""By row: command lines whose calls differ, or that are refused."""


@pytest.fixture(scope="module", params=["ours", "given"])
def records(request: pytest.FixtureRequest, root: Path) -> list[dict[str, Any]]:
    """Option sets and the calls that were recorded for them."""
    if request.param == "ours":
        stored = json.loads((root / "tests" / "cases" / "tensorrt" / "recorded-8.6.1.json").read_text())
        calls = stored["calls"]
        return [{**case, "calls": [list(calls[number]) for number in case["calls"]]} for case in stored["cases"]]
    given = os.environ.get("PTQBRIDGE_CASES")
    path = (Path(given) if given else root.parent / "shared" / "cases") / RECORDS
    if not path.is_file():
        pytest.skip(f"no {RECORDS}: neither PTQBRIDGE_CASES nor shared/cases beside the checkout has it")
    return [json.loads(line) for line in path.read_text().splitlines()]


def value(name: str, kind: int, *shape: Any) -> Any:
    return helper.make_tensor_value_info(name, kind, list(shape))


def network(kind: str) -> onnx.ModelProto:
    """The networks of the recording, as far as their calls show them: names, ranks, kinds of layers."""
    node = helper.make_node
    weights = [numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "w")]
    batch = "batch" if kind == "dyn" else 1
    inputs = [value("data", TensorProto.FLOAT, batch, 3, 224, 224)]
    outputs = [value("prob", TensorProto.FLOAT, batch, 3, 112, 112)]
    nodes = [
        node("Conv", ["data", "w"], ["c1"], "conv1"),
        node("MaxPool", ["c1"], ["p1"], "pool1", kernel_shape=[2, 2], strides=[2, 2]),
        node("Concat", ["p1"], ["k1"], "cat1", axis=1),
        node("Softmax", ["k1"], ["prob"], "softmax"),
    ]
    if kind == "qdq":
        weights = [numpy_helper.from_array(np.float32(0.1), "s"), numpy_helper.from_array(np.int8(0), "z")]
        nodes = [
            node("QuantizeLinear", ["data", "s", "z"], ["q"], "q"),
            node("DequantizeLinear", ["q", "s", "z"], ["prob"], "dq"),
        ]
        outputs = [value("prob", TensorProto.FLOAT, 1, 3, 224, 224)]
    elif kind == "shape":
        inputs = [value("data", TensorProto.FLOAT, "n", 3, 8, 8), value("newshape", TensorProto.INT64, 2)]
        outputs = [value("o", TensorProto.FLOAT, "a", "b")]
        nodes, weights = [node("Reshape", ["data", "newshape"], ["o"], "reshape")], []
    elif kind == "two":
        weights = [numpy_helper.from_array(np.ones((4, 8), np.float32), "w")]
        inputs = [value("ids", TensorProto.INT32, "n", 128), value("mask", TensorProto.FLOAT, "n", 128)]
        outputs = [value("a", TensorProto.FLOAT, "n", 128, 8), value("b", TensorProto.FLOAT, "n", 8)]
        nodes = [node("Gather", ["w", "ids"], ["a"], "emb"), node("MatMul", ["mask", "w"], ["b"], "mm")]
    graph = helper.make_graph(nodes, kind, inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def plan_of(words: list[str]) -> Plan:
    options = parse(words)
    asked = tuple(Asked(item.option.name, item.value, item.written, item.source) for item in options)
    request = Request(Target("trt", "tensorrt"), build_spec(options), run_spec(options), asked)
    made = plan(request, "8.6.1")
    refuse(made)
    return made


def ours(api: Any) -> Iterator[list[Any]]:
    """What the stand-in recorded, in the recording's words."""
    for name, *arguments in api.CALLS:
        if name == "IOptimizationProfile.set_shape":
            tensor, *bounds = arguments
            for bound, dims in zip(("MIN", "OPT", "MAX"), bounds, strict=True):
                yield ["OptimizationProfile.setDimensions", tensor, bound, list(dims)]
        elif name == "IOptimizationProfile.set_shape_input":
            tensor, *bounds = arguments
            for bound, dims in zip(("MIN", "OPT", "MAX"), bounds, strict=True):
                yield ["OptimizationProfile.setShapeValues", tensor, bound, list(dims)]
        elif name == "OnnxParser.set_flag":
            yield ["OnnxParser.setFlags", [arguments[0].name]]
        else:
            cpp = NAMES.get(name, name)
            yield [cpp, *(word(cpp, argument, api) for argument in arguments)]


def word(call: str, argument: Any, api: Any) -> Any:
    if call in MASKS and isinstance(argument, int):
        return [member.name for member in getattr(api, MASKS[call]) if argument >> int(member) & 1]
    if call == "ExecutionContext.setPersistentCacheLimit":
        return bool(argument)  # the bytes are a share of what the device has, which is another one there
    return argument.name if hasattr(argument, "name") else list(argument) if isinstance(argument, tuple) else argument


def tidy(calls: Iterable[list[Any]]) -> list[list[Any]]:
    """Without what rows of docs/differences.md explain."""
    left_out = [fits for row, fits in ROWS.items() if row in BY_ROW]
    found: list[list[Any]] = []
    for call in calls:
        bare = call[:1] if call[0] in NO_ARGUMENTS else [_single(argument) for argument in call]
        if not any(fits(bare, found) for fits in left_out):
            found.append(bare)
    return found


def _single(argument: Any) -> Any:
    """Numbers as far as the recording writes them: six digits of a 32-bit float."""
    return float(f"{argument:.6g}") if isinstance(argument, float) else argument


def made(case: dict[str, Any], api: Any) -> str:
    """Carry out the plan of a case; what went wrong, or ""."""
    name = case["name"].split()
    if name[1:2] == ["fails"]:
        api.FAIL.add(name[0])
    if case["name"].startswith("leanDLLPath") and case["rc"]:
        api.FAIL.add("lean")
    runs = any(call[0] == RUN for call in case["calls"])
    try:
        planned = _named(plan_of(case["argv"]))
        build(planned, say=lambda text: None, progress=None)
        if runs:
            _run(planned, api)
    except PtqbridgeError as error:
        return error.message
    return ""


def _run(planned: Plan, api: Any) -> None:
    """Only what is done on contexts stays: a run loads the engine again, which the build's own calls show already."""
    before = len(api.CALLS)
    try:
        run(planned, planned.build.artifact, say=lambda text: None)
    finally:
        made = [call[0] for call in api.CALLS[before:]].index("ICudaEngine.create_execution_context")
        untimed = "untimed-query" in BY_ROW and not planned.settings.get("graph")
        api.CALLS[before:] = without_first_query(api.CALLS[before + made :]) if untimed else api.CALLS[before + made :]


def without_first_query(calls: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Without the query that each context answers before the clock starts, and its layer times."""
    kept: list[tuple[Any, ...]] = []
    untimed, dropped = False, False
    for call in calls:
        untimed = untimed or call[0] == "ICudaEngine.create_execution_context"
        skip = (untimed and call[0] == "IExecutionContext.execute_async_v3") or (
            dropped and call[0] == "IExecutionContext.report_to_profiler"
        )
        dropped = skip and not dropped
        untimed = untimed and not skip
        kept += [] if skip else [call]
    return kept


def _named(planned: Plan) -> Plan:
    """trtexec keeps the engine in memory; here a file is named for it."""
    build = planned.build
    return planned if build.artifact else replace(planned, build=replace(build, artifact="kept.engine"))


def parted(calls: list[list[Any]]) -> tuple[list[list[Any]], list[list[Any]]]:
    """Calls up to the loaded engine, and those on execution contexts."""
    ends = (RUN, "global.createInferRefitter", "Refitter", "CudaEngine.createEngineInspector")
    start = next((index for index, call in enumerate(calls) if call[0] in ends), len(calls))
    first = next((index for index, call in enumerate(calls) if call[0] == RUN), len(calls))
    return calls[:start], [call for call in calls[first:] if call[0].startswith(("ExecutionContext.", RUN))]


def ready(calls: list[list[Any]], argv: list[str]) -> list[list[Any]]:
    """Calls on contexts in one order: that of addresses is an accident in trtexec, that of contexts has a row."""
    calls = [call[:2] if call[0] == "ExecutionContext.setTensorAddress" else call for call in calls]
    calls = [[call[0], bool(call[1])] if call[0].endswith("setPersistentCacheLimit") else call for call in calls]
    if any(word.startswith(("--infStreams", "--streams")) for word in argv) and "context-order" in BY_ROW:
        return sorted(calls, key=str)
    if "--separateProfileRun" in argv and "profile-context" in BY_ROW:
        again = next((index for index, call in enumerate(calls) if index and call[0] == RUN), len(calls))
        calls = calls[:again] + [call for call in calls[again:] if not call[0].startswith(MADE_READY)]
    groups = itertools.groupby(calls, key=lambda call: call[0] == "ExecutionContext.setTensorAddress")
    return [call for same, group in groups for call in (sorted(group, key=str) if same else group)]


def disagreement(case: dict[str, Any], api: Any) -> str:
    """How our calls differ from the recorded ones without a row that explains it, or ""."""
    wanted, wanted_run = map(tidy, parted(case["calls"]))
    error = made(case, api)
    found, found_run = map(tidy, parted(list(ours(api))))
    line = " ".join(case["argv"])
    if any(fits(line) for row, fits in EXCUSED.items() if row in BY_ROW):
        return ""
    if case["rc"] > 0:  # a failure there is one here, found out no later
        return "" if error and found == wanted[: len(found)] else f"error {error!r} after {found[-2:]}, {wanted[-2:]}"
    if case["rc"] < 0:  # a crash there
        return "" if (error and found == wanted[: len(found)]) or found[: len(wanted)] == wanted else f"{found}"
    if error:
        missing = "was not found" in error and "--calib=" in line and "calib-missing" in BY_ROW and not found
        broken = "deserialize_cuda_engine failed" in error and "bad-engine" in BY_ROW and found == wanted
        foreign = "--calib: " in error and "foreign-cache" in BY_ROW and not found
        unknown = "matches no layer" in error and "unknown-layer" in BY_ROW and found == wanted[: len(found)]
        return "" if missing or broken or foreign or unknown else f"error here only: {error}"
    if "qdq-calibrator" in BY_ROW and case["net"] == "qdq":
        unused = ("BuilderConfig.setInt8Calibrator", "Calibrator.readCalibrationCache")
        wanted = [call for call in wanted if call[0] not in unused]
    if "shape-address" in BY_ROW and case["net"] == "shape":
        named = [call[:2] for call in wanted_run]
        wanted_run = [call for at, call in enumerate(wanted_run) if not _told_again(call, named[:at])]
    return unequal(found, wanted) or unequal(ready(found_run, case["argv"]), ready(wanted_run, case["argv"]))


def _told_again(call: list[Any], before: list[list[Any]]) -> bool:
    return call[0] == "ExecutionContext.setTensorAddress" and call[:2] in before


def unequal(found: list[list[Any]], wanted: list[list[Any]]) -> str:
    """The first difference, or ""."""
    if found == wanted:
        return ""
    at = next((i for i, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), min(len(found), len(wanted)))
    return f"call {at}: {found[at : at + 2]} for {wanted[at : at + 2]}"


@pytest.fixture
def tried(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tensorrt: Callable[..., Any],
    runs_network: Callable[[Any], None],
) -> Callable[[dict[str, Any]], str]:
    """Try a case in a fresh folder with its files: how our calls differ."""
    monkeypatch.setattr("gc.collect", lambda: 0)  # a run clears up before it times; here that is most of its time

    def go(case: dict[str, Any]) -> str:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        monkeypatch.chdir(folder)
        onnx.save(network(case["net"]), "net.onnx")
        for name, content in case.get("files", {}).items():
            Path(name).write_bytes(bytes(content) if isinstance(content, int) else content.encode())
        api = tensorrt("8.6.1")
        runs_network(api)
        api.PLUGINS = case.get("plugins", [])
        return disagreement(case, api)

    return go


def test_every_recorded_set_makes_the_same_calls(
    records: list[dict[str, Any]], tried: Callable[[dict[str, Any]], str]
) -> None:
    assert len(records) >= 40
    found = {f"{case['name']}: {' '.join(case['argv'])}": tried(case) for case in records}
    assert {name: text for name, text in found.items() if text} == {}


def test_a_wrong_order_would_be_seen(records: list[dict[str, Any]], tried: Callable[[dict[str, Any]], str]) -> None:
    case = next(case for case in records if "--avgTiming=5" in case["argv"] or "--avgTiming=1" in case["argv"])
    calls = list(case["calls"])
    calls[-4], calls[-3] = calls[-3], calls[-4]
    assert tried({**case, "calls": calls}).startswith("call ")
    assert tried({**case, "argv": [*case["argv"], "--refit"]}).startswith("call ")


def test_a_wrong_query_would_be_seen(records: list[dict[str, Any]], tried: Callable[[dict[str, Any]], str]) -> None:
    case = next(case for case in records if case["calls"][-1:] == [["ExecutionContext.enqueueV3", False]])
    assert tried({**case, "calls": case["calls"][:-1]}).startswith("call ")
