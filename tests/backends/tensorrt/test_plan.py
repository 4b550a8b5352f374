"""Plans: trtexec's order of calls, made-up ranges, what could not be looked up, what needs no vendor software."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import ptqbridge
from ptqbridge.backends.tensorrt.plan import plan as plan_now
from ptqbridge.backends.tensorrt.plan import preview
from ptqbridge.plan import Plan, Request, Target
from ptqbridge.rulebook import Verdict

PlanOf = Callable[..., Plan]


@pytest.fixture
def qdq_model(tmp_path: Path) -> Path:
    """Static input -> Q -> DQ."""
    scale = onnx.numpy_helper.from_array(np.float32(0.5), "s")
    zero = onnx.numpy_helper.from_array(np.int8(0), "z")
    nodes = [
        helper.make_node("QuantizeLinear", ["in", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["out"]),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 4]) for name in ("in", "out")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], [scale, zero])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = tmp_path / "qdq.onnx"
    path.write_bytes(model.SerializeToString())
    return path


def config_calls(plan: Plan) -> list[str]:
    return [text for text in plan.settings["calls"] if text.startswith(("config.", "tensor."))]


def test_plain_build_makes_the_calls_of_trtexec_8_6_1(plan_of: PlanOf) -> None:
    calls = plan_of("8.6", "--skipInference").settings["calls"]
    assert calls == (
        "import tensorrt as trt",
        "device = open_device(0)",
        "logger = message_log(trt)",
        'trt.init_libnvinfer_plugins(logger, "")',
        "builder = trt.Builder(logger)",
        "network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH))",
        "parser = trt.OnnxParser(network, logger)",
        'parser.parse_from_file("absent.onnx")',
        "config = builder.create_builder_config()",
        "profile = builder.create_optimization_profile()",
        "network.get_input(i).dtype = trt.float32",
        "network.get_input(i).allowed_formats = 1 << int(trt.TensorFormat.LINEAR)",
        "network.get_output(i).allowed_formats = 1 << int(trt.TensorFormat.LINEAR)",
        "config.profiling_verbosity = trt.ProfilingVerbosity.LAYER_NAMES_ONLY",
        "config.min_timing_iterations = 1",
        "config.avg_timing_iterations = 8",
        "config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.NONE",
        "stream = device.stream()",
        "config.profile_stream = stream.handle",
        "engine_bytes = builder.build_serialized_network(network, config)",
        "runtime = trt.Runtime(logger)",
        "runtime.tempfile_control_flags = 1 << int(trt.TempfileControlFlag.ALLOW_IN_MEMORY_FILES)"
        " | 1 << int(trt.TempfileControlFlag.ALLOW_TEMPORARY_FILES)",
        "engine = runtime.deserialize_cuda_engine(engine_bytes)",
    )


def test_config_calls_keep_the_order_of_trtexec_8_6_1(plan_of: PlanOf) -> None:
    plan = plan_of(
        "8.6",
        *("--useDLACore=0", "--allowGPUFallback", "--avgTiming=5", "--workspace=1", "--refit", "--sparsity=enable"),
    )
    assert config_calls(plan) == [
        "config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, 1048576)",
        "config.set_flag(trt.BuilderFlag.REFIT)",
        "config.set_flag(trt.BuilderFlag.SPARSE_WEIGHTS)",
        "config.profiling_verbosity = trt.ProfilingVerbosity.LAYER_NAMES_ONLY",
        "config.min_timing_iterations = 1",
        "config.avg_timing_iterations = 5",
        "config.default_device_type = trt.DeviceType.DLA",
        "config.DLA_core = 0",
        "config.set_flag(trt.BuilderFlag.PREFER_PRECISION_CONSTRAINTS)",
        "config.set_flag(trt.BuilderFlag.GPU_FALLBACK)",
        "config.set_flag(trt.BuilderFlag.FP16)",
        "config.hardware_compatibility_level = trt.HardwareCompatibilityLevel.NONE",
        "config.profile_stream = stream.handle",
    ]


def test_later_versions_leave_out_what_they_no_longer_have(plan_of: PlanOf) -> None:
    for version, network in (("10", "0"), ("11", "1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)")):
        calls = plan_of(version).settings["calls"]
        assert f"network = builder.create_network({network})" in calls
        assert not any("min_timing" in text or "dtype" in text for text in calls)


def test_enumerations_are_never_numbers(plan_of: PlanOf) -> None:
    """NetworkDefinitionCreationFlag, BuilderFlag, TacticSource have other numbers in each generation."""
    for version in ("8.6", "10", "11"):
        for text in plan_of(version, "--tacticSources=-JIT_CONVOLUTIONS", "--refit").settings["calls"]:
            assert "create_network(1)" not in text
            assert "set_flag(" not in text or "trt." in text
            assert "set_tactic_sources" not in text or "trt.TacticSource.JIT_CONVOLUTIONS" in text


def test_a_capability_report_needs_the_configuration_before_parsing(plan_of: PlanOf) -> None:
    calls = plan_of("10.16", "--useDLACore=0", "--reportCapabilityDLA").settings["calls"]
    order = [
        calls.index(text) for text in calls if text.startswith(("config = ", "parser.set_builder", "parser.parse"))
    ]
    assert order == sorted(order)
    assert [calls[at].split("(")[0] for at in order] == [
        "config = builder.create_builder_config",
        "parser.set_builder_config",
        "parser.parse_from_file",
    ]


def test_int8_without_data_is_performance_only(plan_of: PlanOf) -> None:
    plan = plan_of("8.6", "--int8")
    assert "trtexec" in plan.performance_only
    assert "set_made_up_ranges(trt, network)" in plan.settings["calls"]
    assert any(fill.what == "INT8 ranges" for fill in plan.fills)
    for words in (["--best"], ["--inputIOFormats=int8:chw"]):
        assert plan_of("10", *words).performance_only
    strong = plan_of("11", "--int8")
    assert "noise" in strong.performance_only
    assert strong.settings["edits"] == ("Q/DQ nodes with the ranges of seeded noise",)
    assert "noise" in strong.steps[0].title


@pytest.mark.parametrize("told", ["--calib=c.cache", "--calibData=calib"])
def test_told_ranges_are_not_performance_only(told: str, plan_of: PlanOf) -> None:
    for version in ("8.6", "10", "11"):
        plan = plan_of(version, "--int8", told)
        assert plan.performance_only == ""
        assert not any("set_made_up_ranges" in text for text in plan.settings["calls"])


def test_an_empty_cache_path_tells_nothing(plan_of: PlanOf) -> None:
    assert plan_of("8.6", "--int8", "--calib=").performance_only


def test_strict_refuses_made_up_ranges(plan_of: PlanOf) -> None:
    for version in ("8.6", "11"):
        assert [row.option for row in plan_of(version, "--strict", "--int8").refused] == ["--int8"]
        assert [row.option for row in plan_of(version, "--best", "--strict").refused] == ["--best"]
        assert not plan_of(version, "--strict", "--int8", "--calib=c.cache").refused


def test_q_dq_nodes_of_the_model_tell_the_ranges(qdq_model: Path, plan_of: PlanOf) -> None:
    for version, verdict in (("8.6", Verdict.EXACT), ("11", Verdict.IMPLIED)):
        plan = plan_of(version, f"--onnx={qdq_model}", "--int8", "--calib=c.cache")
        assert plan.performance_only == ""
        assert plan.rows[1].verdict is verdict
        assert plan.rows[2].verdict is Verdict.IGNORED
        assert plan.settings["edits"] == ()


def test_names_and_shapes_are_checked_against_the_model(qdq_model: Path, plan_of: PlanOf) -> None:
    notes = " ".join(plan_of("8.6", f"--onnx={qdq_model}", "--optShapes=other:1x4").notes)
    assert "'other' is no input" in notes
    assert "no input of" in notes and "is dynamic" in notes


def test_a_missing_model_is_said(plan_of: PlanOf) -> None:
    notes = plan_of("8.6", "--int8", "--calib=gone.cache").notes
    assert any(note.startswith("absent.onnx was not found") for note in notes)
    assert any("gone.cache was not found" in note for note in notes)


def test_a_broken_model_is_said(tmp_path: Path, plan_of: PlanOf) -> None:
    path = tmp_path / "broken.onnx"
    path.write_bytes(b"\x00\x01 no model")
    assert any("could not be looked into" in note for note in plan_of("8.6", f"--onnx={path}").notes)


def test_strong_lowering_parses_the_edited_model(plan_of: PlanOf) -> None:
    plan = plan_of("11", "--int8", "--fp16", "--calibData=calib")
    assert 'parser.parse_from_file(beside("model.edited.onnx"))' in plan.settings["calls"]
    assert plan.settings["edits"] == ("Q/DQ nodes from our calibration", "Cast to fp16 where values fit")
    assert [step.title.split()[0] for step in plan.steps[:2]] == ["calibrate", "edit"]
    assert not any("calibrator" in text for text in plan.settings["calls"])


def test_weak_lowering_hands_our_ranges_over_as_a_cache(plan_of: PlanOf) -> None:
    plan = plan_of("10", "--int8", "--calibData=calib")
    assert 'config.int8_calibrator = cached_ranges(trt, beside("calibration.cache"))' in plan.settings["calls"]
    assert plan.steps[0].writes == ("calibration.cache",)


def test_no_precision_option_means_fp32(plan_of: PlanOf) -> None:
    def precision(version: str, *words: str) -> str:
        return next(fill.value for fill in plan_of(version, *words).fills if fill.what == "precision")

    assert precision("8.6") == "fp32, TF32 allowed"
    assert precision("10", "--noTF32") == "fp32"
    assert precision("11") == "the model's own types"


def test_the_saved_engine_is_what_the_step_writes(plan_of: PlanOf) -> None:
    written = [path for step in plan_of("8.6", "--saveEngine=m.engine").steps for path in step.writes]
    assert written == ["m.engine"]


def test_a_context_is_made_for_each_stream(plan_of: PlanOf) -> None:
    calls = plan_of("8.6", "--infStreams=3").settings["calls"]
    assert [text for text in calls if "create_execution_context" in text] == [
        "context = engine.create_execution_context()"
    ]


def test_asynchronous_reading_replaces_the_plain_one(plan_of: PlanOf) -> None:
    for version, reader in (("8.6", False), ("10.7", True)):
        calls = plan_of(version, "--asyncFileReader", "--loadEngine=m.engine").settings["calls"]
        loads = [text for text in calls if text.startswith("engine = ")]
        assert len(loads) == 1
        assert ("engine_reader" in loads[0]) is reader


def test_the_default_version_is_noted(request_of: Callable[..., Request], monkeypatch: pytest.MonkeyPatch) -> None:
    from ptqbridge.backends.tensorrt import version

    monkeypatch.setattr(version, "DISTRIBUTIONS", ("no-such-distribution-of-tensorrt",))
    plan = plan_now(request_of("--fp16"))
    assert plan.settings["version"] == "8.6"
    assert "no TensorRT is installed" in plan.notes[0]


def test_a_version_that_is_none_is_refused(request_of: Callable[..., Request]) -> None:
    with pytest.raises(ValueError):
        plan_now(request_of("--fp16"), "newest")


def test_preview_says_where_versions_differ() -> None:
    target = Target("trt", "tensorrt")
    fp16 = preview("fp16", True, target)
    assert fp16.verdict is Verdict.EXACT
    assert "on 11: approximate" in fp16.because
    assert "on 10 and 11: exact" in preview("stripWeights", True, target).because
    assert preview("noTF32", True, target).because == ""


def test_planning_imports_nothing_heavy() -> None:
    code = (
        "import sys, ptqbridge.backends.tensorrt.backend\n"
        "heavy = ('numpy', 'onnx', 'onnxruntime', 'tensorrt', 'pycuda', 'click', 'yaml')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(ptqbridge.__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert done.stdout.strip() == "[]"


def test_our_own_default_method_is_said(plan_of: PlanOf) -> None:
    plan = plan_of("8.6", "--int8", "--calibData=calib")
    assert ("calibration method", "entropy2") in [(fill.what, fill.value) for fill in plan.fills]
    assert "(entropy2)" in plan.steps[0].title
    assert "(max)" in plan_of("8.6", "--int8", "--calibData=calib", "--calibAlgo=max").steps[0].title


def test_a_dynamic_input_without_a_shape_runs_at_one(tmp_path: Path, plan_of: PlanOf) -> None:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 4]) for name in ("in", "out")]
    graph = helper.make_graph([helper.make_node("Relu", ["in"], ["out"])], "g", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    path = tmp_path / "dynamic.onnx"
    path.write_bytes(model.SerializeToString())
    plan = plan_of("8.6", f"--onnx={path}")
    assert 'profile.set_shape("in", (1, 4), (1, 4), (1, 4))' in plan.settings["calls"]
    assert ("shape of in", "1x4") in [(fill.what, fill.value) for fill in plan.fills]
    asked = plan_of("8.6", f"--onnx={path}", "--optShapes=in:3x4")
    assert [text for text in asked.settings["calls"] if "set_shape" in text] == [
        'profile.set_shape("in", (3, 4), (3, 4), (3, 4))'
    ]


def test_the_constraints_flag_stands_with_the_dla_or_with_the_layers(plan_of: PlanOf) -> None:
    flag = "config.set_flag(trt.BuilderFlag.PREFER_PRECISION_CONSTRAINTS)"
    layers = config_calls(plan_of("8.6", "--fp16", "--precisionConstraints=prefer", "--layerPrecisions=a:fp16"))
    assert layers.index(flag) > layers.index("config.set_flag(trt.BuilderFlag.FP16)")
    dla = config_calls(plan_of("8.6", "--useDLACore=0"))
    assert dla.index(flag) == dla.index("config.DLA_core = 0") + 1


def test_later_profiles_have_their_own_shapes(plan_of: PlanOf) -> None:
    words = ("--profile=0", "--optShapes=in:1x4", "--profile=1", "--minShapes=in:2x4", "--maxShapes=in:8x4")
    calls = plan_of("10", *words).settings["calls"]
    first = calls.index("profile1 = builder.create_optimization_profile()")
    assert calls[first + 1 : first + 4] == (
        'profile1.set_shape("in", (2, 4), (8, 4), (8, 4))',
        "require_valid(profile1)",
        "config.add_optimization_profile(profile1)",
    )
    assert calls.index("config.add_optimization_profile(profile)") < first
