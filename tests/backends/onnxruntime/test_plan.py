"""What the CPU plan settles, says and stamps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ptqbridge.plan import Plan

PlanOf = Callable[..., Plan]


def test_without_a_precision_option_it_is_fp32_and_says_so(plan_of: PlanOf) -> None:
    plan = plan_of("--onnx=m.onnx")
    assert plan.settings["choices"].precision == "fp32"
    assert any(fill.what == "precision" and fill.value == "fp32" for fill in plan.fills)
    assert plan.performance_only == ""


def test_int8_without_data_is_performance_only(plan_of: PlanOf) -> None:
    assert "accuracy is not" in plan_of("--onnx=m.onnx", "--int8").performance_only
    assert plan_of("--onnx=m.onnx", "--int8", "--calibData=d").performance_only == ""


def test_best_without_data_is_performance_only_if_int8_wins(plan_of: PlanOf) -> None:
    assert plan_of("--onnx=m.onnx", "--best").performance_only.startswith("should int8 win")


@pytest.mark.parametrize(
    ("argv", "artifact"),
    [
        ([], "./m.cpu-fp32.onnx"),
        (["--int8"], "./m.cpu-int8.onnx"),
        (["--best", "--out=o"], "o/m.cpu-best.onnx"),
        (["--int8", "--saveEngine=a/b.onnx", "--out=o"], "a/b.onnx"),
    ],
)
def test_the_artifact_is_named_after_model_and_precision(plan_of: PlanOf, argv: list[str], artifact: str) -> None:
    assert plan_of("--onnx=models/m.onnx", *argv).settings["choices"].artifact == artifact


def test_trtexec_keeps_no_artifact_unless_asked(plan_of: PlanOf) -> None:
    plan = plan_of("--onnx=m.onnx", command="trtexec")
    assert plan.settings["choices"].artifact == ""
    assert any(step.title.startswith("run 1 stream") for step in plan.steps)


def test_missing_files_are_notes_not_errors(plan_of: PlanOf, tmp_path: Path) -> None:
    plan = plan_of("--onnx=no.onnx", "--int8", f"--calibData={tmp_path}")
    assert plan.notes == ("no.onnx was not found: its inputs, shapes and layers were not checked",)


def test_steps_name_what_is_written(plan_of: PlanOf) -> None:
    steps = plan_of("--onnx=m.onnx", "--int8", "--calibData=d", "--calibAlgo=max").steps
    assert [step.writes for step in steps if step.writes] == [("./m.cpu-int8.onnx",)]
    assert any("calibrate with d: max" in step.title for step in steps)
