"""From options to the neutral spec."""

from __future__ import annotations

from typing import Any

import pytest

from ptqbridge.options.parse import parse
from ptqbridge.options.tospec import build_spec, run_spec
from ptqbridge.spec import (
    BuildSpec,
    Calibration,
    IOFormat,
    ModelFile,
    Precision,
    Preprocess,
    Reports,
    RunSpec,
    ShapeRange,
)

BUILD_LINE = (
    "--onnx=m.onnx --saveEngine=out.engine --fp16 --int8 --precisionConstraints=obey "
    "--layerPrecisions=c1:fp16,*:int8 --layerOutputTypes=c2:fp32+int32 "
    "--layerDeviceTypes=c3:DLA --minShapes=a:1 --optShapes=a:4 --maxShapes=a:8 "
    "--inputIOFormats=int8:chw32 --outputIOFormats=fp16:chw --builderOptimizationLevel=3 --sparsity=force --refit "
    "--profilingVerbosity=verbose --out=folder --strict --calibData=samples --calib=cache --calibAlgo=percentile "
    "--calibPercentile=99.9 --calibSamples=32 --calibBatch=4 --calibSeed=7 --skipBroken=2 --resize=crop:8x8 "
    "--color=bgr --layout=nhwc --mean=1,2,3 --std=4,5,6 --scale=0.5"
)
RUN_LINE = (
    "--loadEngine=e --shapes=a:2 --loadInputs=a:a.npy --iterations=5 --duration=1.5 --warmUp=20 --sleepTime=1 "
    "--idleTime=2 --infStreams=3 --threads --useSpinWait --noDataTransfers --intraOpThreads=2 --separateProfileRun "
    "--timeDeserialize --skipInference --device=1 --percentile=50,99 --avgRuns=20 --verbose --dumpOutput "
    "--dumpRawBindingsToFile --dumpProfile --dumpLayerInfo --exportTimes=t --exportOutput=o --exportProfile=p "
    "--exportLayerInfo=l"
)


def test_a_model_alone_asks_for_the_defaults() -> None:
    options = parse(["--onnx=m.onnx"])
    assert build_spec(options) == BuildSpec(model=ModelFile(path="m.onnx", format="onnx"))
    assert run_spec(options) == RunSpec()


def test_build_spec() -> None:
    shapes = {"a": ShapeRange((1,), (4,), (8,))}
    assert build_spec(parse(BUILD_LINE.split())) == BuildSpec(
        model=ModelFile(path="m.onnx", format="onnx"),
        artifact="out.engine",
        precision=Precision(
            allowed=("fp16", "int8"),
            constraints="obey",
            layers={"c1": ("fp16",), "*": ("int8",)},
            layer_outputs={"c2": ("fp32", "int32")},
            layer_devices={"c3": "DLA"},
        ),
        calibration=Calibration(
            data="samples",
            cache="cache",
            algorithm="percentile",
            percentile=99.9,
            samples=32,
            batch=4,
            seed=7,
            skip_broken=2,
            shapes=shapes,
            preprocess=Preprocess(
                resize="crop:8x8", color="bgr", layout="nhwc", mean=(1, 2, 3), std=(4, 5, 6), scale=(0.5,)
            ),
        ),
        shapes=shapes,
        input_formats=(IOFormat("int8", ("chw32",)),),
        output_formats=(IOFormat("fp16", ("chw",)),),
        effort=3,
        sparsity="force",
        refittable=True,
        layer_detail="detailed",
        out="folder",
        strict=True,
    )


def test_run_spec() -> None:
    assert run_spec(parse(RUN_LINE.split())) == RunSpec(
        artifact="e",
        shapes={"a": (2,)},
        inputs={"a": "a.npy"},
        iterations=5,
        duration_s=1.5,
        warmup_ms=20,
        sleep_ms=1,
        idle_ms=2,
        streams=3,
        threads=True,
        spin=True,
        transfers=False,
        intra_op_threads=2,
        separate_profile_run=True,
        time_load=True,
        skip=True,
        device=1,
        reports=Reports(
            percentiles=(50, 99),
            average_runs=20,
            verbose=True,
            dump_output=True,
            dump_raw=True,
            dump_profile=True,
            dump_layers=True,
            export_times="t",
            export_output="o",
            export_profile="p",
            export_layers="l",
        ),
    )


@pytest.mark.parametrize(
    ("argv", "field", "value"),
    [
        (["--best"], "precision", Precision(allowed=("fp16", "int8"), best=True)),
        (["--bf16", "--fp8"], "precision", Precision(allowed=("bf16", "fp8"))),
        (["--builderOptimizationLevel=-1"], "effort", None),
        (["--builderOptimizationLevel=0"], "effort", 0),
        (["--nvtxMode=none"], "layer_detail", "none"),
        (["--nvtxMode=none", "--profilingVerbosity=detailed"], "layer_detail", "detailed"),
        (["--stripAllWeights"], "refittable", True),
        (["--shapes=a:3"], "shapes", {"a": ShapeRange((3,), (3,), (3,))}),
    ],
)
def test_build_spec_fields(argv: list[str], field: str, value: Any) -> None:
    assert getattr(build_spec(parse(["--onnx=m", *argv])), field) == value


@pytest.mark.parametrize(
    ("argv", "field", "value"),
    [
        (["--streams=4"], "streams", 4),
        (["--streams=4", "--infStreams=2"], "streams", 2),
        (["--noSpinWait"], "spin", False),
        (["--buildOnly"], "skip", True),
        (["--optShapes=a:4"], "shapes", {"a": (4,)}),
    ],
)
def test_run_spec_fields(argv: list[str], field: str, value: Any) -> None:
    assert getattr(run_spec(parse(["--onnx=m", *argv])), field) == value


def test_older_importers() -> None:
    uff = build_spec(parse(["--uff=u", "--uffInput=in,3,4,5", "--output=a,b", "--output=c"])).model
    assert uff == ModelFile(path="u", format="uff", outputs=("a", "b", "c"), inputs=(("in", 3, 4, 5),))
    caffe = build_spec(parse(["--model=w", "--deploy=d", "--output=o"])).model
    assert caffe == ModelFile(path="w", format="caffe", description="d", outputs=("o",))
    assert build_spec(parse(["--loadEngine=e"])).model == ModelFile()
