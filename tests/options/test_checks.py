"""Rules between options; what a command line as a whole means is in the golden cases."""

from __future__ import annotations

import pytest

from ptqbridge.errors import OptionError
from ptqbridge.options.checks import model_format
from ptqbridge.options.parse import parse


@pytest.mark.parametrize(
    ("argv", "kind"),
    [
        (["--onnx=m"], "onnx"),
        (["--uff=u", "--uffInput=a,1,2,3", "--output=o"], "uff"),
        (["--model=c", "--output=o"], "caffe"),
        (["--deploy=d", "--output=o"], "caffe"),
        (["--model=c", "--deploy=d", "--output=o"], "caffe"),
        (["--loadEngine=e"], "none"),
    ],
)
def test_model_format(argv: list[str], kind: str) -> None:
    assert model_format(parse(argv)) == kind


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--onnx=m", "--deploy=d"], "--deploy cannot stand beside --onnx"),
        (["--loadEngine=e", "--uffNHWC"], "--uffNHWC cannot stand beside no --uff"),
        (["--onnx=m", "--fp8", "--int8"], "--fp8 cannot stand beside --int8 or --best"),
        (["--onnx=m", "--maxShapesCalib=a:1", "--optShapesCalib=a:1"], "--minShapesCalib is missing"),
        (["--loadEngine=e", "--saveEngine=s"], "--saveEngine cannot stand beside --loadEngine"),
        (["--onnx=m", "--maxBatch=-1"], "--batch and --maxBatch are for implicit-batch models"),
        (["--loadEngine=e", "--batch=2", "--maxBatch=1"], "--maxBatch=1 is below --batch=2"),
        (["--onnx=m", "--buildDLAStandalone", "--inputIOFormats=fp16:chw16,fp32:chw"], "a DLA loadable needs"),
        (["--onnx=m", "--reportCapabilityDLA"], "--reportCapabilityDLA needs --useDLACore"),
        (["--onnx=m", "--cpuOnly", "--safe"], "--cpuOnly needs --safe and --remoteAutoTuningConfig"),
        (["--onnx=m", "--weightStreamingBudget=1G"], "needs --allowWeightStreaming"),
        (["--onnx=m", "--saveAllEngines"], "--saveAllEngines needs --saveEngine"),
        (["--onnx=m", "--pi", "--vc"], "--pluginInstanceNorm cannot stand beside --versionCompatible"),
        (["--onnx=m", "--tuneBuildRoutes=x", "--tuneBuildRouteFile=f"], "cannot stand beside --tuneBuildRouteFile"),
        (["--onnx=m", "--atol=1", "--accuracyAlgorithm=cos"], "--atol and --rtol belong to --accuracyAlgorithm=l0"),
    ],
)
def test_broken_rule(argv: list[str], message: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse(argv)
    assert message in caught.value.message


@pytest.mark.parametrize("io", ["int8:dla_linear", "fp16:dla_linear", "int8:chw32", "fp16:chw16"])
def test_dla_formats_of_inputs_and_outputs(io: str) -> None:
    assert parse(["--onnx=m", "--buildDLAStandalone", f"--inputIOFormats={io}", f"--outputIOFormats={io}"])


@pytest.mark.parametrize("io", ["int8:chw4", "fp16:chw4", "int8:dla_hwc4", "fp16:dla_hwc4"])
def test_dla_formats_of_inputs_only(io: str) -> None:
    good = "--outputIOFormats=int8:chw32"
    assert parse(["--onnx=m", "--buildDLAStandalone", f"--inputIOFormats={io}", good])
    with pytest.raises(OptionError):
        parse(["--onnx=m", "--buildDLAStandalone", f"--inputIOFormats={io}", f"--outputIOFormats={io}"])


@pytest.mark.parametrize(
    "io", ["int8:chw16", "fp16:chw32", "fp32:dla_linear", "int8:chw4+dla_hwc4", "fp16:", "int8:hwc"]
)
def test_formats_no_dla_takes(io: str) -> None:
    with pytest.raises(OptionError, match="a DLA loadable needs"):
        parse(["--onnx=m", "--safe", "--useDLACore=0", f"--inputIOFormats={io}", "--outputIOFormats=int8:chw32"])


def test_a_plain_line_has_no_warnings() -> None:
    assert parse(["--onnx=m", "--fp16", "--int8", "--saveEngine=e"]).warnings == ()


def test_shape_order_shows_the_three_shapes() -> None:
    with pytest.raises(OptionError) as caught:
        parse(["--onnx=m", "--minShapes=a:1x3", "--optShapes=a:9x3", "--maxShapes=a:8x3"])
    assert "'a'" in caught.value.message
    for shape in ("1x3", "9x3", "8x3"):
        assert shape in caught.value.message
    assert caught.value.difference == "shape-order"
