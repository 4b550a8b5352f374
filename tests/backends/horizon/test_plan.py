"""Plans: the traps between trtexec's words and the BPU tools' behaviour, steps, fills, notes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from ptqbridge.plan import Plan, Row
from ptqbridge.rulebook import Verdict

ARTICLE = (
    "--onnx=static.onnx --saveEngine=static.engine --useCudaGraph --noDataTransfers --useSpinWait --infStreams=8 "
    "--maxAuxStreams=8 --builderOptimizationLevel=5 --threads --best --verbose --profilingVerbosity=detailed "
    "--dumpProfile --dumpLayerInfo --separateProfileRun --avgRuns=100 --iterations=1000"
)
MYNET = "--onnx=examples/mynet/mynet.onnx"
DYNAMIC = "--onnx=examples/mynet/mynet_dynamic.onnx"


def row(plan: Plan, option: str) -> Row:
    """The report's line for an option."""
    return next(row for row in plan.rows if row.option.partition("=")[0] == f"--{option}")


def commands(plan: Plan) -> list[str]:
    """The plan's commands, model paths cut to their names."""
    words = [
        " ".join(word.rpartition("/")[2] if word.endswith(".onnx") else word for word in s.argv) for s in plan.steps
    ]
    return [command for command in words if command]


@pytest.mark.parametrize("target", ["bayes", "bayes-e", "bernoulli2", "nash-e", "nash-m", "nash-p", "nash-b-lite"])
def test_the_articles_command(plan_of: Callable[..., Plan], target: str) -> None:
    plan = plan_of(ARTICLE, target)
    assert not plan.refused
    journey6 = target.startswith("nash")
    build, timing, profile = commands(plan)
    if journey6:
        assert build == f"hb_compile --fast-perf --model static.onnx --march {target}"
    else:
        assert build == f"hb_mapper makertbin --model-type onnx --fast-perf --model static.onnx --march {target}"
    suffix = "hbm" if journey6 else "bin"
    assert timing.startswith(f"hrt_model_exec perf --model_file=model_output/static.{suffix} --thread_num=8")
    assert "--frame_count=1000" in timing and "profile_path" not in timing
    assert "--profile_path=./profile" in profile
    assert ("--statistic_cycle=100" in timing) == journey6
    assert "internal_use" not in timing
    assert row(plan, "builderOptimizationLevel").becomes.endswith("O2" if journey6 else "O3")
    assert plan.performance_only
    assert any("static.onnx was not found" in note for note in plan.notes)


def test_no_precision_means_int8_and_is_said(plan_of: Callable[..., Plan]) -> None:
    for target in ("bayes", "nash-m"):
        fill = next(fill for fill in plan_of(f"{MYNET} --calibData=c", target).fills if fill.what == "precision")
        assert fill.value == "int8" and "fp32 in trtexec" in fill.why
        assert not [fill for fill in plan_of(f"{MYNET} --int8", target).fills if fill.what == "precision"]


def test_int8_without_data_is_performance_only(plan_of: Callable[..., Plan]) -> None:
    bare = plan_of(f"{MYNET} --int8", "nash-m", "build")
    assert "made up" in bare.performance_only
    assert "made up" in row(bare, "int8").why
    assert plan_of(f"{MYNET} --int8 --calibData=c", "nash-m", "build").performance_only == ""
    loaded = plan_of("--loadEngine=m.hbm", "nash-m", "run")
    assert loaded.performance_only == ""


def test_skipped_calibration_is_written_and_said(plan_of: Callable[..., Plan]) -> None:
    for target, file in (("bayes", "hb_mapper.yaml"), ("nash-m", "hb_compile.yaml")):
        plan = plan_of(f"{MYNET} --builderOptimizationLevel=0", target, "build")
        assert "calibration_type: skip" in plan.files[file]
        assert plan.performance_only


def test_a_tensorrt_cache_is_refused_and_samples_are_offered(plan_of: Callable[..., Plan]) -> None:
    for target in ("bayes", "nash-m"):
        refusal = row(plan_of(f"{MYNET} --int8 --calib=c.cache", target), "calib")
        assert refusal.verdict is Verdict.REFUSED
        assert "ranges" in refusal.why and "--calibData" in refusal.why


def test_best_uses_the_samples_when_there_are_some(plan_of: Callable[..., Plan]) -> None:
    assert row(plan_of(f"{MYNET} --best", "bayes"), "best").becomes == "--fast-perf"
    calibrated = plan_of(f"{MYNET} --best --calibData=c", "bayes")
    assert row(calibrated, "best").becomes == "int8 with calibration"
    assert not any("--fast-perf" in command for command in commands(calibrated))
    other = plan_of(f"{MYNET} --best --layerDeviceTypes=/fc/Gemm:CPU", "bayes")
    assert "skipped" in row(other, "best").why and not other.settings["fast_perf"]


def test_one_shape_only(plan_of: Callable[..., Plan]) -> None:
    shapes = "--minShapes=input1:{} --optShapes=input1:{} --maxShapes=input1:{}"
    same = plan_of(f"{DYNAMIC} {shapes.format(*['4x3x28x28'] * 3)}", "bayes", "build")
    assert row(same, "optShapes").becomes == "input_parameters.input_shape: 4x3x28x28"
    assert same.steps[0].argv[-3:] == ("-i", "input1", "4x3x28x28")
    spread = plan_of(f"{DYNAMIC} {shapes.format('1x3x28x28', '4x3x28x28', '8x3x28x28')}", "bayes", "build")
    assert {item.option.partition("=")[0] for item in spread.refused} == {"--minShapes", "--optShapes", "--maxShapes"}
    assert "1x3x28x28..4x3x28x28..8x3x28x28" in spread.refused[0].why


@pytest.mark.parametrize(
    ("shape", "words"),
    [("nope:1x3x28x28", "no input 'nope'"), ("input1:1x3x28", "cannot become"), ("input1:1x4x28x28", "cannot become")],
)
def test_shapes_that_the_model_cannot_take(plan_of: Callable[..., Plan], shape: str, words: str) -> None:
    refusal = row(plan_of(f"{DYNAMIC} --shapes={shape}", "bayes"), "shapes")
    assert refusal.verdict is Verdict.REFUSED and words in refusal.why


def test_fp16(plan_of: Callable[..., Plan]) -> None:
    journey5 = row(plan_of(f"{MYNET} --fp16", "bayes"), "fp16")
    assert journey5.verdict is Verdict.REFUSED and "--layerPrecisions=NODE:int16" in journey5.why
    alone = plan_of(f"{MYNET} --fp16 --calibData=c", "nash-m", "build")
    assert "all_node_type: float16" in alone.files["hb_compile.yaml"]
    both = plan_of(f"{MYNET} --fp16 --int8 --calibData=c", "nash-m", "build")
    assert "all_node_type: int8" in both.files["hb_compile.yaml"]


def test_layer_requests_count_only_with_constraints(plan_of: Callable[..., Plan]) -> None:
    words = f"{MYNET} --calibData=c --layerPrecisions=*Conv:int8"
    assert row(plan_of(words), "layerPrecisions").verdict is Verdict.IGNORED
    wish = plan_of(f"{words} --precisionConstraints=prefer")
    assert row(wish, "layerPrecisions").verdict is Verdict.EXACT
    assert set(wish.settings["yaml"]["model_parameters.node_info"]) == {
        "/features/features.0/Conv",
        "/features/features.3/Conv",
    }


def test_a_node_that_does_not_exist_is_never_silent(plan_of: Callable[..., Plan]) -> None:
    words = f"{MYNET} --calibData=c --layerPrecisions=nothing:int8 --precisionConstraints="
    wish = row(plan_of(f"{words}prefer"), "layerPrecisions")
    assert wish.verdict is Verdict.APPROXIMATE and "'nothing'" in wish.why
    assert row(plan_of(f"{words}obey"), "layerPrecisions").verdict is Verdict.REFUSED


def test_device_counts_from_zero_and_core_id_from_one(plan_of: Callable[..., Plan]) -> None:
    assert "--core_id=2" in commands(plan_of(f"{MYNET} --device=1"))[-1]
    assert "core_id" not in commands(plan_of(MYNET))[-1]
    assert row(plan_of(f"{MYNET} --device=0 --useDLACore=1"), "device").verdict is Verdict.REFUSED


def test_units_of_duration(plan_of: Callable[..., Plan]) -> None:
    assert "--perf_time=1" in commands(plan_of(f"{MYNET} --duration=10"))[-1]
    assert "--perf_time_in_seconds=10" in commands(plan_of(f"{MYNET} --duration=10", "nash-m"))[-1]
    assert "--perf_time=1" in commands(plan_of(f"{MYNET} --duration=10", "nash-m", toolchain="3.0"))[-1]
    assert "--perf_time_in_seconds=3" in commands(plan_of(MYNET, "nash-m"))[-1]
    assert "--frame_count=200" in commands(plan_of(MYNET))[-1]
    assert "--frame_count=10" in commands(plan_of(f"{MYNET} --duration=0"))[-1]


def test_both_lengths_say_which_one_counts(plan_of: Callable[..., Plan]) -> None:
    plan = plan_of(f"{MYNET} --duration=10 --iterations=50", "nash-m")
    assert "by time alone" in row(plan, "iterations").why
    assert {"--perf_time_in_seconds=10", "--frame_count=50"} <= set(plan.steps[-1].argv)


def test_the_older_generation_lacks_keys_and_flags(plan_of: Callable[..., Plan]) -> None:
    old = plan_of(f"{MYNET} --timingCacheFile=c --avgRuns=5 --warmUp=0 --calibData=c", "nash-m", toolchain="3.0")
    assert {str(row(old, name).verdict) for name in ("timingCacheFile", "avgRuns", "warmUp")} == {"ignored"}
    assert "enable_vpu: false" in old.files["hb_compile.yaml"]  # the older default, said aloud
    assert "enable_spu" not in old.files["hb_compile.yaml"]
    assert plan_of(MYNET, "nash-p", toolchain="3.0").faults == ("hb_compile 3.0 does not know nash-p; 3.5 does",)
    assert [row.option for row in plan_of(f"{MYNET} --toolchainVersion=3.0", "nash-p").refused] == [
        "--toolchainVersion=3.0"
    ]


def test_outputs_and_percentiles_take_an_infer_run(plan_of: Callable[..., Plan]) -> None:
    plan = plan_of(
        "--loadEngine=m.hbm --loadInputs=b:b.bin,a:a.bin --dumpOutput --percentile=99 --iterations=64", "nash-m"
    )
    perf, frames, dump = commands(plan)
    assert perf == "hrt_model_exec perf --model_file=m.hbm --input_file=b.bin,a.bin --frame_count=64"
    assert frames == "hrt_model_exec infer --model_file=m.hbm --input_file=b.bin,a.bin --frame_count=64"
    assert "--enable_dump=true" in dump and "--dequantize_process=true" in dump and "--frame_count=1" in dump


def test_loading_time_comes_from_model_info(plan_of: Callable[..., Plan]) -> None:
    assert commands(plan_of("--loadEngine=m.bin --timeDeserialize")) == ["hrt_model_exec model_info --model_file=m.bin"]


@pytest.mark.parametrize(
    ("command", "words"), [("build", ""), ("trtexec", "--skipInference"), ("trtexec", "--buildOnly")]
)
def test_a_build_alone_asks_no_board(plan_of: Callable[..., Plan], command: str, words: str) -> None:
    plan = plan_of(f"{MYNET} {words}", "bayes", command)
    assert "board.sh" not in plan.files and len(commands(plan)) == 1


def test_scripts_quote_their_words(plan_of: Callable[..., Plan]) -> None:
    plan = plan_of("--onnx=a\\ b\\;c.onnx", "bayes", "build")
    text = plan.files["run.sh"]
    assert text.startswith("#!/bin/sh\nset -eu\n")
    assert "/a b;c.onnx'" in text


def test_a_foreign_artifact_is_noted(plan_of: Callable[..., Plan]) -> None:
    assert any("is a .hbm file" in note for note in plan_of("--loadEngine=m.engine", "nash-m", "run").notes)


def test_plan_settings_are_json(plan_of: Callable[..., Plan]) -> None:
    for target in ("bayes", "nash-p"):
        settings = plan_of(f"{MYNET} --calibData=c --int8 --device=0", target).settings
        assert json.loads(json.dumps(settings))["march"] == target
        assert settings["board_args"] == ("--core_id=1",)


def test_everything_asked_is_in_the_report(plan_of: Callable[..., Plan]) -> None:
    plan = plan_of(ARTICLE, "bayes")
    assert [item.option for item in plan.rows] == ARTICLE.split()


def test_explaining_without_the_model_loads_nothing_heavy() -> None:
    code = (
        "import sys; from ptqbridge.backends import load, resolve; from ptqbridge.plan import Request; "
        "from ptqbridge.spec import BuildSpec, RunSpec; t = resolve('nash-m'); "
        "load(t).plan(Request(t, BuildSpec(), RunSpec(), ())); "
        "print({'numpy', 'onnx', 'onnxruntime', 'click', 'yaml', 'rich'} & set(sys.modules))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_environment()
    )
    assert result.stdout.strip() == "set()"


def _environment() -> dict[str, str]:
    import os

    return {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
