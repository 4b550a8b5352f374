"""--timeRefit on the stand-in: the network's own weights, as often as trtexec, and what goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ptqbridge.backends.tensorrt.build import build
from ptqbridge.backends.tensorrt.measure import run
from ptqbridge.errors import ToolchainFailed
from ptqbridge.plan import Plan
from ptqbridge.result import BuildResult

WORDS = ("--onnx=m.onnx", "--refit", "--timeRefit", "--saveEngine=e.engine")
PlanOf = Callable[..., Plan]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """x -> Conv -> y, with a working directory of its own."""
    monkeypatch.chdir(tmp_path)
    weights = [
        numpy_helper.from_array(np.ones(shape, np.float32), name) for shape, name in (((2, 3, 1, 1), "w"), ((2,), "b"))
    ]
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, size, 4, 4]) for name, size in (("x", 3), ("y", 2))
    ]
    node = helper.make_node("Conv", ["x", "w", "b"], ["y"], "conv")
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), "m.onnx")
    return tmp_path


@pytest.fixture
def built(
    model: Path, plan_of: PlanOf, tensorrt: Callable[..., Any]
) -> Callable[..., tuple[BuildResult, Any, list[str]]]:
    def go(version: str, *words: str, fail: str = "") -> tuple[BuildResult, Any, list[str]]:
        api = tensorrt(version)
        api.FAIL.update([fail] if fail else [])
        said: list[str] = []
        return build(plan_of(version, *WORDS, *words), say=said.append, progress=None), api, said

    return go


@pytest.mark.parametrize(("version", "plain", "queued"), [("8.6.1", 6, 0), ("10.13.3", 1, 10), ("11.4.0", 1, 10)])
def test_as_often_as_trtexec(version: str, plain: int, queued: int, built: Callable[..., Any]) -> None:
    result, api, said = built(version)
    names = [call[0] for call in api.CALLS]
    assert names.count("Refitter.refit_cuda_engine") == plain
    assert names.count("Refitter.refit_cuda_engine_async") == queued
    given = [call[1:] for call in api.CALLS if call[0] == "Refitter.set_weights"]
    assert given == [("conv", "KERNEL", "w"), ("conv", "BIAS", "b")] * plain  # 8.6 takes them anew for every refit
    assert result.facts["refit_ms"] >= 0
    assert any(text.startswith("Engine refitted in ") and text.endswith(" ms.") for text in said)
    assert "Refitter.max_threads=" not in names


def test_threads_are_for_the_refitter_too(built: Callable[..., Any]) -> None:
    _, api, _ = built("10.13.3", "--threads")
    assert ("Refitter.max_threads=", 10) in api.CALLS and ("Refitter.weights_validation=", False) in api.CALLS


def test_also_when_nothing_is_run(built: Callable[..., Any]) -> None:
    result, _, _ = built("8.6.1", "--skipInference")
    assert "refit_ms" in result.facts


@pytest.mark.parametrize(
    ("fail", "says"), [("weights", "weights are missing for"), ("refit", "the engine could not be refitted")]
)
def test_what_goes_wrong(fail: str, says: str, built: Callable[..., Any]) -> None:
    with pytest.raises(ToolchainFailed, match=says):
        built("10.13.3", fail=fail)


def test_what_can_be_refitted_is_listed(built: Callable[..., Any], plan_of: PlanOf) -> None:
    _, api, _ = built("8.6.1")
    said: list[str] = []
    api.CALLS.clear()
    run(plan_of("8.6.1", *WORDS, "--dumpRefit", "--skipInference"), "e.engine", say=said.append)
    assert [text.split(" ")[0] for text in said if text.startswith("conv ")] == ["conv", "conv"]
    assert not any(call[0] == "Refitter.refit_cuda_engine" for call in api.CALLS)  # it was timed after the build
