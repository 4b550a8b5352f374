"""Every option has a rule; what the versions make of each follows NVIDIA's API and trtexec's sources."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ptqbridge.backends.tensorrt.context import Context
from ptqbridge.backends.tensorrt.rules import RULES
from ptqbridge.backends.tensorrt.version import GENERATIONS
from ptqbridge.options.table import OPTIONS
from ptqbridge.plan import COMMON, Plan, Request, Row, Target
from ptqbridge.rulebook import Verdict
from ptqbridge.spec import BuildSpec, RunSpec

RowOf = Callable[..., Row]
PlanOf = Callable[..., Plan]
OWN = [option for option in OPTIONS if option.name not in COMMON]
RELEASES = (*GENERATIONS, "8.6.0", "10.0.1", "10.13.3")


def test_one_rule_per_option_in_the_order_of_the_table() -> None:
    assert list(RULES) == [option.name for option in OWN]


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("version", RELEASES)
def test_examples_apply_and_are_explained(version: str, alone: bool) -> None:
    request = Request(Target("trt", "tensorrt"), BuildSpec(), RunSpec(), ())
    context = Context(request, version, alone=alone)
    for option in OWN:
        for example in option.examples:
            outcome = RULES.apply(option.name, option.value.parse(example), context)
            where = (option.name, example, outcome)
            assert outcome.because or outcome.verdict is Verdict.EXACT, where
            assert not outcome.because.endswith("."), where
            assert bool(outcome.becomes) is (outcome.verdict in (Verdict.EXACT, Verdict.APPROXIMATE)), where
            assert set(outcome.emits) <= {
                "calls",
                "dla",
                "edits",
                "graph",
                "managed",
                "expose_dma",
                "head",
                "times_refit",
                "debug_files",
                "debug_forms",
            }, where
            for text in (*outcome.emits.get("calls", ()), *outcome.emits.get("edits", ())):
                assert text in outcome.becomes, where


EXACT, APPROXIMATE, IMPLIED, IGNORED, REFUSED = Verdict

VERDICTS = [
    # words, 8.6, 10, 11
    ("--fp16", EXACT, EXACT, APPROXIMATE),
    ("--refPair=0", EXACT, EXACT, EXACT),
    ("--refPair=0 --refPair=1", REFUSED, REFUSED, REFUSED),
    ("--allocationStrategy=runtime", IGNORED, EXACT, EXACT),
    ("--saveDebugTensors=x:f", REFUSED, EXACT, EXACT),
    ("--refit --timeRefit", EXACT, EXACT, EXACT),
    ("--bf16", REFUSED, EXACT, APPROXIMATE),
    ("--int8", EXACT, EXACT, APPROXIMATE),
    ("--int4", REFUSED, EXACT, REFUSED),
    ("--fp8", EXACT, EXACT, REFUSED),
    ("--best", EXACT, EXACT, APPROXIMATE),
    ("--stronglyTyped", REFUSED, EXACT, IMPLIED),
    ("--noTF32", EXACT, EXACT, EXACT),
    ("--int8 --calib=c.cache", EXACT, EXACT, APPROXIMATE),
    ("--int8 --calib=c.cache --optShapesCalib=in:1x3", EXACT, EXACT, APPROXIMATE),
    ("--int8 --calibData=calib", EXACT, EXACT, EXACT),
    ("--precisionConstraints=obey --layerPrecisions=conv1:fp16", EXACT, EXACT, APPROXIMATE),
    ("--precisionConstraints=obey --layerPrecisions=conv1:int32", EXACT, EXACT, REFUSED),
    ("--precisionConstraints=obey --layerOutputTypes=conv1:fp16+fp32", EXACT, EXACT, APPROXIMATE),
    ("--precisionConstraints=obey --layerPrecisions=conv1:bf16", REFUSED, EXACT, APPROXIMATE),
    ("--layerDeviceTypes=conv1:DLA", EXACT, EXACT, EXACT),
    ("--layerDeviceTypes=conv1:BPU", REFUSED, REFUSED, REFUSED),
    ("--inputIOFormats=fp16:chw", EXACT, EXACT, APPROXIMATE),
    ("--inputIOFormats=int64:chw", REFUSED, EXACT, APPROXIMATE),
    ("--sparsity=enable", EXACT, EXACT, EXACT),
    ("--sparsity=force", APPROXIMATE, APPROXIMATE, APPROXIMATE),
    ("--workspace=64", EXACT, EXACT, EXACT),
    ("--memPoolSize=tacticSharedMem:1", IGNORED, EXACT, EXACT),
    ("--memPoolSize=workspace:1,tacticSharedMem:1", APPROXIMATE, EXACT, EXACT),
    ("--minTiming=2", EXACT, IGNORED, IGNORED),
    ("--avgTiming=2", EXACT, EXACT, EXACT),
    ("--heuristic", EXACT, APPROXIMATE, APPROXIMATE),
    ("--builderOptimizationLevel=1 --heuristic", EXACT, IMPLIED, IMPLIED),
    ("--builderOptimizationLevel=5 --heuristic", EXACT, IGNORED, IGNORED),
    ("--tacticSources=-CUDNN", EXACT, EXACT, IGNORED),
    ("--tacticSources=-CUDNN,+JIT_CONVOLUTIONS", EXACT, EXACT, APPROXIMATE),
    ("--preview=+profileSharing0806", EXACT, IMPLIED, IMPLIED),
    ("--preview=+aliasedPluginIO1003", IGNORED, EXACT, EXACT),
    ("--preview=-fasterDynamicShapes0805", EXACT, IGNORED, IGNORED),
    ("--hardwareCompatibilityLevel=sameComputeCapability", REFUSED, EXACT, EXACT),
    ("--restricted", EXACT, EXACT, EXACT),
    ("--explicitBatch", IMPLIED, IMPLIED, IMPLIED),
    ("--explicitPrecision", IGNORED, IGNORED, IGNORED),
    ("--safe", REFUSED, REFUSED, REFUSED),
    ("--consistency", IGNORED, IGNORED, IGNORED),
    ("--stripWeights", REFUSED, EXACT, EXACT),
    ("--errorOnTimingCacheMiss", REFUSED, EXACT, EXACT),
    ("--noCompilationCache", IMPLIED, EXACT, EXACT),
    ("--maxTactics=5", IGNORED, EXACT, EXACT),
    ("--tilingOptimizationLevel=2", IGNORED, EXACT, EXACT),
    ("--setBuildRoute=x", IGNORED, IGNORED, EXACT),
    ("--tuneBuildRoutes=x", REFUSED, REFUSED, REFUSED),
    ("--stronglyTyped --allowWeightStreaming", REFUSED, EXACT, EXACT),
    ("--allowWeightStreaming", REFUSED, REFUSED, EXACT),
    ("--markDebug=a", REFUSED, EXACT, EXACT),
    ("--pluginInstanceNorm", IMPLIED, EXACT, EXACT),
    ("--nativeInstanceNorm", EXACT, IMPLIED, IMPLIED),
    ("--profile=0 --minShapes=in:1x3 --profile=1", REFUSED, EXACT, EXACT),
    ("--batch=0", IGNORED, IGNORED, IGNORED),
    ("--maxBatch=0", IGNORED, IGNORED, IGNORED),
    ("--useSpinWait", EXACT, EXACT, EXACT),
    ("--noSpinWait", IMPLIED, IMPLIED, IMPLIED),
    ("--includeDataTransfers", IMPLIED, IMPLIED, IMPLIED),
    ("--threads", APPROXIMATE, APPROXIMATE, APPROXIMATE),
    ("--sleepTime=5", APPROXIMATE, APPROXIMATE, APPROXIMATE),
    ("--allocationStrategy=runtime", IGNORED, EXACT, EXACT),
    ("--board=ssh://x", IGNORED, IGNORED, IGNORED),
]


@pytest.mark.parametrize(("words", "old", "ten", "eleven"), VERDICTS, ids=[row[0] for row in VERDICTS])
def test_verdict_by_version(words: str, old: Verdict, ten: Verdict, eleven: Verdict, plan_of: PlanOf) -> None:
    name = words.split()[-1]
    for version, verdict in zip(GENERATIONS, (old, ten, eleven), strict=True):
        row = next(row for row in reversed(plan_of(version, *words.split()).rows) if row.option == name)
        assert (version, row.verdict) == (version, verdict)


def test_caffe_is_refused_on_every_version(plan_of: PlanOf) -> None:
    plan = plan_of("8.6", "--onnx=m.onnx")
    assert not plan.refused
    request = Request(Target("trt", "tensorrt"), BuildSpec(), RunSpec(), ())
    for version in GENERATIONS:
        outcome = RULES.apply("deploy", "net.prototxt", Context(request, version))
        assert outcome.verdict is REFUSED
        assert "ONNX" in outcome.because


@pytest.mark.parametrize("since", [("maxTactics=3", "10.3.0", "10.4"), ("tilingOptimizationLevel=1", "10.7", "10.8")])
def test_a_release_counts_not_only_its_generation(since: tuple[str, str, str], row_of: RowOf) -> None:
    words, before, first = since
    assert row_of(before, f"--{words}").verdict is IGNORED
    assert row_of(first, f"--{words}").verdict is EXACT


def test_strongly_typed_10_edits_the_model_as_11_does(plan_of: PlanOf) -> None:
    plan = plan_of("10.13.3", "--stronglyTyped", "--fp16")
    assert plan.rows[-1].verdict is APPROXIMATE
    assert plan.settings["edits"] == ("Cast to fp16 where values fit",)
    assert not any("BuilderFlag.FP16" in text for text in plan.settings["calls"])


def test_a_refusal_names_the_replacement(row_of: RowOf) -> None:
    assert "--int8" in row_of("11", "--int4").why
    assert "--fp16" in row_of("8.6", "--bf16").why
    assert "--stronglyTyped" in row_of("10", "--allowWeightStreaming").why
    assert "--maxShapes" in row_of("8.6", "--loadEngine=e", "--maxBatch=4").why


def test_int16_is_a_word_of_the_bpu(row_of: RowOf) -> None:
    row = row_of("8.6", "--precisionConstraints=obey", "--layerPrecisions=conv1:int16")
    assert row.verdict is REFUSED
    assert "BPU" in row.why


def test_pool_sizes_in_bytes_and_dla_sram_rounded_down(row_of: RowOf) -> None:
    assert "WORKSPACE, 262144)" in row_of("8.6", "--memPoolSize=workspace:0.25").becomes
    # 3 MiB become 2 MiB; 0.001 MiB are 1048 bytes and become 1 KiB, as trtexec 8.6.1 does.
    for asked, size in (("3", 2 << 20), ("0.001", 1024), ("4096", 1 << 30)):
        row = row_of("8.6", f"--memPoolSize=dlaSRAM:{asked}")
        assert row.becomes.endswith(f"DLA_MANAGED_SRAM, {size})")
        assert row.verdict is APPROXIMATE


def test_older_name_yields_to_the_newer(row_of: RowOf) -> None:
    assert row_of("8.6", "--memPoolSize=workspace:1", "--workspace=2").verdict is IGNORED
    assert row_of("8.6", "--profilingVerbosity=none", "--nvtxMode=verbose").verdict is IGNORED
    assert row_of("8.6", "--infStreams=2", "--streams=3").verdict is IGNORED
    assert row_of("8.6", "--noBuilderCache", "--timingCacheFile=t").verdict is IGNORED


def test_an_empty_enumeration_keeps_the_default(row_of: RowOf) -> None:
    assert row_of("8.6", "--profilingVerbosity=").verdict is IGNORED


def test_options_without_their_companion_are_said(row_of: RowOf) -> None:
    assert row_of("8.6", "--calib=c.cache").verdict is IGNORED
    assert row_of("8.6", "--layerPrecisions=a:fp16").verdict is IGNORED
    assert row_of("8.6", "--allowGPUFallback").verdict is IGNORED
    dla = ("--inputIOFormats=fp16:dla_linear", "--outputIOFormats=fp16:dla_linear", "--buildDLAStandalone")
    assert row_of("8.6", *dla).verdict is IGNORED
    assert row_of("8.6", "--useDLACore=0", *dla).verdict is EXACT
    assert row_of("8.6", "--dumpRefit").verdict is IGNORED
    assert row_of("8.6", "--calibData=x").verdict is IGNORED
    assert row_of("8.6", "--int8", "--calibSamples=5").verdict is IGNORED
    assert row_of("8.6", "--int8", "--calib=c", "--calibData=x").verdict is IGNORED
    assert row_of("8.6", "--dumpProfile", "--exportTimes=t.json").verdict is IGNORED
    assert row_of("8.6", "--separateProfileRun", "--dumpProfile", "--exportTimes=t.json").verdict is EXACT


def test_nothing_is_built_from_a_loaded_engine(plan_of: PlanOf) -> None:
    plan = plan_of("11", "--loadEngine=m.engine", "--int8", "--fp16", "--optShapes=in:2x3")
    assert [str(row.verdict) for row in plan.rows] == ["exact", "ignored", "ignored", "approximate"]
    calls = plan.settings["calls"]
    assert 'context.set_input_shape("in", (2, 3))' in calls
    assert not any(text.startswith(("builder", "config", "parser", "network")) for text in calls)


def test_nothing_is_run_after_skip_inference_or_build(row_of: RowOf) -> None:
    assert row_of("8.6", "--skipInference", "--iterations=5").verdict is IGNORED
    assert row_of("8.6", "--iterations=5", command="build").verdict is IGNORED
    assert row_of("8.6", "--iterations=5").verdict is EXACT


def test_shapes_are_filled_in_as_trtexec_does(plan_of: PlanOf) -> None:
    plan = plan_of("8.6", "--minShapes=in:1x3", "--maxShapes=in:8x3")
    assert 'profile.set_shape("in", (1, 3), (8, 3), (8, 3))' in plan.settings["calls"]
    assert "opt shape was not given" in plan.rows[-1].why
    alone = plan_of("8.6", "--shapes=in:2x3")
    assert 'profile.set_shape("in", (2, 3), (2, 3), (2, 3))' in alone.settings["calls"]
    assert "min = opt = max" in alone.rows[-1].why


def test_the_three_changed_defaults_of_11_are_said(plan_of: PlanOf, row_of: RowOf) -> None:
    assert "8.6.1" in row_of("11", "--useCudaGraph").why
    fill = next(fill for fill in plan_of("11").fills if fill.what == "measuring")
    assert fill.value == "no CUDA graph, no spin wait, copies in each query"
    said = plan_of("11", "--useCudaGraph", "--useSpinWait", "--noDataTransfers").fills
    assert not any(fill.what == "measuring" for fill in said)


def test_plugins_to_serialize_are_one_list(plan_of: PlanOf) -> None:
    plan = plan_of("8.6", "--setPluginsToSerialize=a.so", "--setPluginsToSerialize=b.so")
    assert [text for text in plan.settings["calls"] if "plugins_to_serialize" in text] == [
        'config.plugins_to_serialize = ["a.so", "b.so"]'
    ]


def test_a_cache_serves_int8_inputs_only_with_int8_as_in_trtexec(row_of: RowOf) -> None:
    assert row_of("8.6", "--inputIOFormats=int8:chw", "--calib=c.cache").verdict is Verdict.IGNORED
    row = row_of("8.6", "--inputIOFormats=int8:chw", "--int8", "--calib=c.cache")
    assert row.becomes == 'config.int8_calibrator = cached_ranges(trt, "c.cache")'


@pytest.mark.parametrize(
    ("budget", "call"),
    [
        ("-1", "engine.get_weight_streaming_automatic_budget()"),
        ("25%", "int(engine.streamable_weights_size * 25 / 100)"),
        ("2G", "2147483648"),
        ("3", "3145728"),
    ],
)
def test_weight_streaming_budget(budget: str, call: str, row_of: RowOf) -> None:
    words = ("--stronglyTyped", "--allowWeightStreaming", f"--weightStreamingBudget={budget}")
    assert row_of("10", *words).becomes == f"engine.weight_streaming_budget_v2 = {call}"
    assert row_of("10.1", *words).becomes == f"engine.weight_streaming_budget = {call}"
