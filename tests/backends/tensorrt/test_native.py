"""TensorRT's own calibrators on stand-ins for module and driver: what is fed, what is written, what goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ptqbridge.backends.tensorrt.build import build
from ptqbridge.backends.tensorrt.native import CLASSES
from ptqbridge.errors import InputError, PtqbridgeError, ToolchainFailed
from ptqbridge.plan import Plan
from ptqbridge.rulebook import Verdict

PlanOf = Callable[..., Plan]
WORDS = ("--onnx=m.onnx", "--int8", "--calibData=calib", "--saveEngine=e.engine", "--out=o")


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """x (n x 2) -> Relu -> y, and four samples of two numbers each."""
    monkeypatch.chdir(tmp_path)
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy"]
    weight = numpy_helper.from_array(np.eye(2, dtype=np.float32), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"], "a")], "g", ends[:1], ends[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), "m.onnx")
    (tmp_path / "calib").mkdir()
    for index in range(4):
        np.save(tmp_path / "calib" / f"{index}.npy", np.full((1, 2), index, np.float32))
    return tmp_path


def built(plan: Plan) -> Any:
    return build(plan, say=lambda text: None, progress=None)


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("version", ["8.6.1", "10.13.3"])
def test_every_calibrator_gets_the_batches_on_the_device_and_writes_its_cache(
    kind: str, version: str, model: Path, plan_of: PlanOf, tensorrt: Callable[..., Any], driver: Any
) -> None:
    api = tensorrt(version)
    shape = ("--optShapes=x:2x2", "--optShapesCalib=x:2x2")
    result = built(plan_of(version, *WORDS, *shape, f"--trtCalibrator={kind}"))
    fed = [np.frombuffer(data, np.float32).tolist() for (data,) in api.BATCHES]
    assert fed == [[0, 0, 1, 1], [2, 2, 3, 3]]
    assert (model / "o" / "calibration.cache").read_text().endswith("\nx: 3c010a14\n")
    assert ("Calibrator.get_batch_size", 1) in api.CALLS
    assert ("IBuilderConfig.set_calibration_profile",) in api.CALLS
    assert result.facts["calibration"]["algorithm"] == f"TensorRT {CLASSES[kind]}"
    assert result.facts["calibration"]["batches"] == 2 and result.facts["calibration"]["tensors"] == 1
    assert driver.memory == {} and (model / "e.engine").is_file()


def test_the_legacy_calibrator_gets_its_quantile(model: Path, plan_of: PlanOf, tensorrt: Callable[..., Any]) -> None:
    api = tensorrt("8.6.1")
    plan = plan_of("8.6", *WORDS, "--trtCalibrator=legacy", "--calibPercentile=99.5")
    assert plan.rows[-1].becomes == "get_quantile() gives 0.995"
    built(plan)
    assert ("Calibrator.get_quantile", 0.995) in api.CALLS and ("Calibrator.get_regression_cutoff", 1.0) in api.CALLS
    plan = plan_of("8.6", *WORDS, "--trtCalibrator=legacy", "--calibCutoff=0.5")
    assert plan.rows[-1].becomes == "get_regression_cutoff() gives 0.5"
    built(plan)
    assert ("Calibrator.get_regression_cutoff", 0.5) in api.CALLS
    assert plan_of("8.6", *WORDS, "--trtCalibrator=minmax", "--calibCutoff=0.5").rows[-1].verdict is Verdict.IGNORED


def test_what_a_callback_raises_ends_the_build(model: Path, plan_of: PlanOf, tensorrt: Callable[..., Any]) -> None:
    api = tensorrt("8.6.1")
    np.save(model / "calib" / "3.npy", np.full((1, 2), np.nan, np.float32))
    with pytest.raises(PtqbridgeError, match=r"3\.npy"):  # a NaN, met after three good batches
        built(plan_of("8.6", *WORDS, "--trtCalibrator=entropy2"))
    assert len(api.BATCHES) == 3 and not (model / "e.engine").exists()


def test_a_rest_fills_no_batch_and_too_few_samples_are_an_error(
    model: Path, plan_of: PlanOf, tensorrt: Callable[..., Any]
) -> None:
    api = tensorrt("8.6.1")
    built(plan_of("8.6", *WORDS, "--optShapes=x:3x2", "--trtCalibrator=minmax"))
    assert len(api.BATCHES) == 1
    with pytest.raises(InputError, match=r"expected batches of x \[5, 2\].*found \[4, 2\]"):
        built(plan_of("8.6", *WORDS, "--optShapes=x:5x2", "--trtCalibrator=minmax"))


def test_the_drivers_failure_is_said(model: Path, plan_of: PlanOf, tensorrt: Callable[..., Any], driver: Any) -> None:
    tensorrt("8.6.1")
    driver.fail["cuMemAlloc_v2"] = 2
    with pytest.raises(ToolchainFailed, match="CUDA_ERROR_OUT_OF_MEMORY"):
        built(plan_of("8.6", *WORDS, "--trtCalibrator=minmax"))


def test_a_cache_that_cannot_be_written_is_said(model: Path, plan_of: PlanOf, tensorrt: Callable[..., Any]) -> None:
    tensorrt("8.6.1")
    (model / "o" / "calibration.cache").mkdir(parents=True)
    with pytest.raises(InputError, match=r"calibration\.cache"):
        built(plan_of("8.6", *WORDS, "--trtCalibrator=minmax"))


def test_it_is_used_where_it_is_asked_for_only(plan_of: PlanOf) -> None:
    def calls(version: str, *words: str) -> str:
        return "\n".join(plan_of(version, "--int8", "--calibData=calib", *words).settings["calls"])

    asked = "--trtCalibrator=minmax"
    native = 'native_calibrator(trt, network, device, "minmax", 0.9999, beside("calibration.cache"))'
    assert native in calls("8.6", asked) and "cached_ranges" not in calls("8.6", asked)
    assert "cached_ranges" in calls("8.6") and "native" not in calls("8.6")
    assert "calibrator" not in calls("11", asked) and "calibrator" not in calls("10", asked, "--stronglyTyped")
    given = calls("8.6", asked, "--calib=c.cache")
    assert 'cached_ranges(trt, "c.cache")' in given and "native" not in given
    step = plan_of("8.6", "--int8", "--calibData=calib", asked).steps[0]
    assert "by TensorRT on the GPU" in step.title and step.writes == ("calibration.cache",)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--emitScript=b.py", "--trtCalibrator=legacy"), "no data reader"),
        (("--inputIOFormats=fp16:chw", "--trtCalibrator=legacy"), "fed float32"),
        (("--trtCalibrator=legacy", "--calibAlgo=kl"), "our own calibration"),
        (("--trtCalibrator=legacy", "--memCap=1G"), "our own calibration"),
    ],
)
def test_what_does_not_go_together(words: tuple[str, ...], says: str, row_of: Callable[..., Any]) -> None:
    row = row_of("8.6", "--int8", "--calibData=calib", *words)
    assert says in row.why and str(row.verdict) in ("refused", "ignored")
