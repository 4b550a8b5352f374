"""Agreement with the calls that the real trtexec 8.6.1 made, option set by option set, in their order.

The plan is carried out on the stand-in module; what that records is compared with the recording, after the rows of
docs/differences.md that are named here are applied to both. The records come from ``$PTQBRIDGE_CASES``, else from
``shared/cases`` beside the checkout.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ptqbridge.backends.tensorrt.build import build
from ptqbridge.backends.tensorrt.plan import plan
from ptqbridge.errors import PtqbridgeError
from ptqbridge.execute import refuse
from ptqbridge.options.differences import BY_ROW
from ptqbridge.options.parse import parse
from ptqbridge.options.tospec import build_spec, run_spec
from ptqbridge.plan import Asked, Plan, Request, Target

RECORDS = "trtexec-calls-8.6.1.jsonl"
RUN = "CudaEngine.createExecutionContext"

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
    }
)
"""Versions, pointers and sizes differ, or are the same number in other clothes."""
ROWS: dict[str, Callable[[list[Any], list[list[Any]]], bool]] = {
    "error-recorder": lambda call, before: call[0].endswith(".setErrorRecorder"),
    "implicit-batch-query": lambda call, before: call[0] == "CudaEngine.hasImplicitBatchDimension",
    "calib-missing": lambda call, before: call[0] in ("Calibrator.getBatch", "Calibrator.batches"),
    "repeated-flag": lambda call, before: call[0] == "BuilderConfig.setFlag" and call in before,
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
    "timed-loads": re.compile(r"--timeDeserialize").search,
    "shape-order": re.compile(r"--minShapes=.*--maxShapes=").search,
}
"""By row: command lines whose calls differ, or that are refused."""


@pytest.fixture(scope="module")
def records(root: Path) -> list[dict[str, Any]]:
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
            yield [NAMES[name], *(word(NAMES[name], argument, api) for argument in arguments)]


def word(call: str, argument: Any, api: Any) -> Any:
    if call in MASKS and isinstance(argument, int):
        return [member.name for member in getattr(api, MASKS[call]) if argument >> int(member) & 1]
    return argument.name if hasattr(argument, "name") else argument


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
    try:
        planned = plan_of(case["argv"])
        build(planned if planned.build.artifact else _named(planned), say=lambda text: None, progress=None)
    except PtqbridgeError as error:
        return error.message
    return ""


def _named(planned: Plan) -> Plan:
    """trtexec keeps the engine in memory; here a file is named for it."""
    from dataclasses import replace

    return replace(planned, build=replace(planned.build, artifact="kept.engine"))


def disagreement(case: dict[str, Any], api: Any) -> str:
    """How our calls differ from the recorded ones without a row that explains it, or ""."""
    recorded = case["calls"]
    start = next((index for index, call in enumerate(recorded) if call[0] == RUN), len(recorded))
    ends = ("global.createInferRefitter", "CudaEngine.createEngineInspector")
    wanted = tidy(recorded[: next((index for index, call in enumerate(recorded) if call[0] in (RUN, *ends)), start)])
    error = made(case, api)
    found = tidy(ours(api))
    line = " ".join(case["argv"])
    if any(fits(line) for row, fits in EXCUSED.items() if row in BY_ROW):
        return ""
    if case["rc"] > 0:  # a failure there is one here, found out no later
        return "" if error and found == wanted[: len(found)] else f"error {error!r} after {found[-2:]}, {wanted[-2:]}"
    if case["rc"] < 0:  # a crash there
        return "" if (error and found == wanted[: len(found)]) or found[: len(wanted)] == wanted else f"{found}"
    if error:
        excused = "was not found" in error and "--calib=" in line and "calib-missing" in BY_ROW
        return "" if excused and not found else f"error here only: {error}"
    if "qdq-calibrator" in BY_ROW and case["net"] == "qdq":
        unused = ("BuilderConfig.setInt8Calibrator", "Calibrator.readCalibrationCache")
        wanted = [call for call in wanted if call[0] not in unused]
    if found == wanted:
        return ""
    at = next((i for i, (a, b) in enumerate(zip(found, wanted, strict=False)) if a != b), min(len(found), len(wanted)))
    return f"call {at}: {found[at : at + 2]} for {wanted[at : at + 2]}"


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A folder with ``net.onnx``, the working directory."""
    monkeypatch.chdir(tmp_path)

    def put(kind: str) -> None:
        onnx.save(network(kind), "net.onnx")

    return put


def test_every_recorded_set_makes_the_same_calls(
    records: list[dict[str, Any]], workshop: Callable[[str], None], tensorrt: Callable[..., Any]
) -> None:
    found = {}
    for case in records:
        workshop(case["net"])
        found[f"{case['name']}: {' '.join(case['argv'])}"] = disagreement(case, tensorrt("8.6.1"))
    assert {name: text for name, text in found.items() if text} == {}


def test_a_wrong_order_would_be_seen(
    records: list[dict[str, Any]], workshop: Callable[[str], None], tensorrt: Callable[..., Any]
) -> None:
    case = next(case for case in records if case["name"] == "avgTiming")
    workshop(case["net"])
    calls = list(case["calls"])
    calls[-4], calls[-3] = calls[-3], calls[-4]
    assert disagreement({**case, "calls": calls}, tensorrt("8.6.1")).startswith("call ")
    assert disagreement({**case, "argv": [*case["argv"], "--refit"]}, tensorrt("8.6.1")).startswith("call ")
