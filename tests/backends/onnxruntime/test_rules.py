"""Every option has a rule on the CPU, and the verdicts that matter are what they should be."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ptqbridge.backends.onnxruntime.plan import preview
from ptqbridge.backends.onnxruntime.rules import RULES
from ptqbridge.options.table import OPTIONS
from ptqbridge.plan import COMMON, Plan, Target
from ptqbridge.rulebook import Verdict

CPU = Target("cpu", "onnxruntime")
RULED = [option for option in OPTIONS if option.name not in COMMON]


def test_every_option_has_a_rule_and_no_rule_lacks_an_option() -> None:
    assert {option.name for option in RULED} == set(RULES)


@pytest.mark.parametrize("option", RULED, ids=lambda option: option.name)
def test_every_example_gets_an_outcome_with_a_reason(option: object) -> None:
    for example in option.examples:  # type: ignore[attr-defined]
        outcome = preview(option.name, option.value.parse(example), CPU)  # type: ignore[attr-defined]
        assert outcome.because or outcome.verdict is Verdict.EXACT
        assert outcome.becomes or outcome.verdict not in (Verdict.EXACT, Verdict.APPROXIMATE)


@pytest.mark.parametrize(
    ("argv", "verdict"),
    [
        (["--int8"], "approximate"),
        (["--int8", "--calibData=d"], "exact"),
        (["--fp16"], "ignored"),
        (["--best"], "exact"),
        (["--sparsity=enable"], "ignored"),
        (["--sparsity=force"], "refused"),
        (["--refit"], "refused"),
        (["--calib=x.cache", "--int8"], "approximate"),
        (["--inputIOFormats=fp16:chw"], "exact"),
        (["--inputIOFormats=fp32:chw+hwc"], "refused"),
        (["--inputIOFormats=int8:chw"], "refused"),
        (["--layerPrecisions=a:fp32"], "ignored"),
        (["--layerPrecisions=a:fp32", "--precisionConstraints=prefer"], "exact"),
        (["--layerPrecisions=a:fp16", "--precisionConstraints=obey"], "approximate"),
        (["--layerPrecisions=a:int8", "--precisionConstraints=obey"], "refused"),
        (["--layerPrecisions=a:int8", "--precisionConstraints=obey", "--int8"], "exact"),
        (["--layerPrecisions=a:int32", "--precisionConstraints=obey"], "refused"),
        (["--layerDeviceTypes=a:CPU"], "implied"),
        (["--layerDeviceTypes=a:GPU"], "refused"),
        (["--device=0"], "implied"),
        (["--device=1"], "refused"),
        (["--useDLACore=-1"], "implied"),
        (["--useDLACore=0"], "refused"),
        (["--useSpinWait"], "implied"),
        (["--noSpinWait"], "exact"),
        (["--board=ssh://root@b"], "refused"),
        (["--toolchain=docker:x"], "refused"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_verdict_of_the_first_option(plan_of: Callable[..., Plan], argv: list[str], verdict: str) -> None:
    plan = plan_of("--onnx=m.onnx", *argv)
    name = argv[0].partition("=")[0]
    row = next(row for row in plan.rows if row.option.partition("=")[0] == name)
    assert str(row.verdict) == verdict


def test_effort_chooses_the_optimisation_level(plan_of: Callable[..., Plan]) -> None:
    levels = [
        plan_of("--onnx=m.onnx", f"--builderOptimizationLevel={n}").settings["choices"].level for n in (0, 1, 2, 3, 5)
    ]
    assert levels == ["basic", "extended", "extended", "all", "all"]
    assert plan_of("--onnx=m.onnx").settings["choices"].level == "all"
    assert plan_of("--onnx=m.onnx", "--vc").settings["choices"].level == "basic"
