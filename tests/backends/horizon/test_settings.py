"""Merging what the rules emit, and when fast-perf can serve."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ptqbridge.backends.horizon.settings import Settings, merge
from ptqbridge.plan import Plan


def test_merge() -> None:
    target = {"words": ("a", "b"), "map": {"n": {"x": 1}}, "text": "old"}
    merge(target, {"words": ("b", "c"), "map": {"n": {"y": 2}, "m": {}}, "text": "new"})
    assert target == {"words": ("a", "b", "c"), "map": {"n": {"x": 1, "y": 2}, "m": {}}, "text": "new"}


def test_merging_does_not_change_what_was_emitted() -> None:
    emitted = {"yaml": {"a.b": {"n": {"x": 1}}}}
    settings = Settings()
    settings.add(emitted)
    settings.add({"yaml": {"a.b": {"n": {"y": 2}}}, "obey": True, "perf": {"flag": True}})
    assert emitted == {"yaml": {"a.b": {"n": {"x": 1}}}}
    assert settings.to_dict() == {
        "yaml": {"a.b": {"n": {"x": 1, "y": 2}}},
        "board_args": ("--flag=true",),
        "infer_args": (),
        "shapes": {},
        "obey": True,
    }


@pytest.mark.parametrize(
    ("words", "target", "fast"),
    [
        ("", "bayes", True),
        ("", "nash-m", True),
        ("--best --builderOptimizationLevel=5 --profilingVerbosity=detailed --saveEngine=a.engine", "bayes", True),
        ("--int8 --shapes=x:1x3x4x4", "nash-m", True),
        ("--builderOptimizationLevel=2", "nash-m", True),
        ("--builderOptimizationLevel=2", "bayes", False),
        ("--calibData=c", "bayes", False),
        ("--fp16", "nash-m", False),
        ("--mean=1", "bayes", False),
        ("--layerDeviceTypes=a:CPU", "bayes", False),
        ("--inputIOFormats=fp32:chw", "bayes", False),
        ("--profilingVerbosity=none", "bayes", False),
    ],
)
def test_fast_perf_serves_only_what_it_does_anyway(
    plan_of: Callable[..., Plan], words: str, target: str, fast: bool
) -> None:
    plan = plan_of(f"--onnx=m.onnx {words}", target, "build")
    assert plan.settings["fast_perf"] is fast
    assert any("--fast-perf" in step.argv for step in plan.steps) is fast
