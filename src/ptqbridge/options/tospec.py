"""From the given options to the neutral spec."""

from __future__ import annotations

from ptqbridge.options.checks import model_format
from ptqbridge.options.given import GivenOptions
from ptqbridge.options.shapes import plan_shapes
from ptqbridge.spec import BuildSpec, Calibration, Expected, ModelFile, Precision, Preprocess, Reports, RunSpec

_PRECISIONS = ("fp16", "bf16", "int8", "fp8", "int4")
_DETAIL = {"layer_names_only": "names", "detailed": "detailed", "none": "none"}


def build_spec(options: GivenOptions) -> BuildSpec:
    """What the options ask to build. They have passed ``checks.check``."""
    effort = options.value("builderOptimizationLevel")
    detail = options.value("profilingVerbosity" if "profilingVerbosity" in options else "nvtxMode")
    shapes = plan_shapes(options)
    return BuildSpec(
        model=_model(options),
        artifact=options.value("saveEngine"),
        precision=_precision(options),
        calibration=_calibration(options),
        shapes=shapes.build,
        input_formats=options.value("inputIOFormats"),
        output_formats=options.value("outputIOFormats"),
        effort=None if effort < 0 else effort,
        sparsity=options.value("sparsity"),
        refittable=options.has("refit", "stripAllWeights"),
        layer_detail=_DETAIL.get(detail, "names"),
        out=options.value("out"),
        strict=options.value("strict"),
    )


def run_spec(options: GivenOptions) -> RunSpec:
    """How the options ask to run."""
    spin = True if "useSpinWait" in options else False if "noSpinWait" in options else None
    return RunSpec(
        artifact=options.value("loadEngine"),
        shapes=plan_shapes(options).run,
        inputs=options.value("loadInputs"),
        iterations=options.value("iterations"),
        duration_s=options.value("duration"),
        warmup_ms=options.value("warmUp"),
        sleep_ms=options.value("sleepTime"),
        idle_ms=options.value("idleTime"),
        streams=options.value("infStreams" if "infStreams" in options else "streams"),
        threads=options.value("threads"),
        spin=spin,
        transfers="noDataTransfers" not in options,
        intra_op_threads=options.value("intraOpThreads"),
        separate_profile_run=options.value("separateProfileRun"),
        time_load=options.value("timeDeserialize"),
        skip=options.has("skipInference", "buildOnly", "buildDLAStandalone"),
        device=options.value("device"),
        expected=_expected(options),
        reports=_reports(options),
    )


def _expected(options: GivenOptions) -> Expected:
    return Expected(
        files=options.value("loadRefOutputs"),
        algorithm=options.value("accuracyAlgorithm"),
        limit=options.value("accuracyThreshold"),
        atol=float(options.value("atol")),
        rtol=float(options.value("rtol")),
    )


def _model(options: GivenOptions) -> ModelFile:
    kind = model_format(options)
    return ModelFile(
        path=options.value({"uff": "uff", "caffe": "model"}.get(kind, "onnx")),
        format=kind,
        description=options.value("deploy"),
        outputs=tuple(name for names in options.value("output") for name in names),
        inputs=options.value("uffInput"),
    )


def _precision(options: GivenOptions) -> Precision:
    best = options.has("best")
    return Precision(
        allowed=tuple(name for name in _PRECISIONS if name in options or (best and name in ("fp16", "int8"))),
        best=best,
        constraints=options.value("precisionConstraints"),
        layers=options.value("layerPrecisions"),
        layer_outputs=options.value("layerOutputTypes"),
        layer_devices=options.value("layerDeviceTypes"),
    )


def _calibration(options: GivenOptions) -> Calibration:
    return Calibration(
        data=options.value("calibData"),
        cache=options.value("calib"),
        algorithm=options.value("calibAlgo"),
        percentile=options.value("calibPercentile"),
        samples=options.value("calibSamples"),
        batch=options.value("calibBatch"),
        seed=options.value("calibSeed"),
        skip_broken=options.value("skipBroken"),
        memory_cap=options.value("memCap"),
        checkpoint=options.value("calibCheckpoint"),
        shapes=plan_shapes(options).calibration,
        preprocess=Preprocess(
            preset=options.value("preset"),
            resize=options.value("resize"),
            filter=options.value("resizeFilter"),
            color=options.value("color"),
            layout=options.value("layout"),
            mean=options.value("mean"),
            std=options.value("std"),
            scale=options.value("scale"),
        ),
    )


def _reports(options: GivenOptions) -> Reports:
    return Reports(
        percentiles=options.value("percentile"),
        average_runs=options.value("avgRuns"),
        verbose=options.value("verbose"),
        dump_output=options.value("dumpOutput"),
        dump_raw=options.value("dumpRawBindingsToFile"),
        dump_profile=options.value("dumpProfile"),
        dump_layers=options.value("dumpLayerInfo"),
        export_times=options.value("exportTimes"),
        export_output=options.value("exportOutput"),
        export_profile=options.value("exportProfile"),
        export_layers=options.value("exportLayerInfo"),
    )
