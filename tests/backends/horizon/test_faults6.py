"""What is known to stop a Journey 6 build before hb_compile runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from ptqbridge.backends.horizon.build6 import build
from ptqbridge.errors import InputError
from ptqbridge.plan import Plan

Make = Callable[..., Plan]
MYNET = "--onnx=examples/mynet/mynet.onnx"


def model(path: Path, **inputs: list[int | str]) -> Path:
    """A model with these inputs (``_`` in a name stands for ``;``), each through a Relu."""
    shapes = {name.replace("_", ";"): shape for name, shape in inputs.items()}
    graph = helper.make_graph(
        [helper.make_node("Relu", [name], [f"{name}.out"], name=f"n{i}") for i, name in enumerate(shapes)],
        "g",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [helper.make_tensor_value_info(f"{name}.out", TensorProto.FLOAT, None) for name in shapes],
        [numpy_helper.from_array(np.zeros(1, np.float32), "unused")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), path)
    return path


def test_a_dynamic_model(plan_of: Make, tmp_path: Path) -> None:
    path = model(tmp_path / "m.onnx", x=["n", 3, "h", 8])
    plan = plan_of(f"--onnx={path} --int8 --calibData=c", "nash-m", "build")
    why = "has dynamic dimensions, and a BPU model has one shape: give --shapes=x:..."
    assert plan.faults == (f"input x: float32[n,3,h,8] {why}",)
    with pytest.raises(InputError, match="this build would fail: input x"):
        build(plan, say=lambda text: None)
    assert not plan_of(f"--onnx={path} --int8 --calibData=c --shapes=x:1x3x8x8", "nash-m", "build").faults


def test_a_name_that_the_tool_would_split(plan_of: Make, tmp_path: Path) -> None:
    alone = plan_of(f"--onnx={model(tmp_path / '1.onnx', a_b=[1, 3, 8, 8])} --int8 --calibData=c", "nash-m", "build")
    assert not alone.faults  # a single input need not be named
    assert "input_name" not in yaml.safe_load(alone.files["hb_compile.yaml"])["input_parameters"]
    both = plan_of(f"--onnx={model(tmp_path / '2.onnx', a_b=[1, 3], c=[1, 3])} --int8", "nash-m", "build")
    assert both.faults == (
        "input 'a;b': expected a name without ; ' \" and blanks at its ends, as hb_compile reads it",
    )


def test_the_yaml_is_looked_at(plan_of: Make) -> None:
    plan = plan_of(f"{MYNET} --int8 --color=gray --preset=imagenet --layout=nchw", "nash-m", "build")
    assert not plan.faults  # the model has three channels, so it keeps its float input
    assert not plan_of(f"{MYNET} --int8 --calibData=c --timingCacheFile=/nowhere/cache", "nash-m", "build").faults


@pytest.mark.parametrize("words", ["--mean=1,2", "--std=1,2,3,4", "--scale=1,2"])
def test_numbers_per_channel(plan_of: Make, words: str) -> None:
    (row,) = plan_of(f"{MYNET} --calibData=c {words}", "nash-m", "build").refused
    assert "expected 1 or 3 numbers, one per channel, found" in row.why


def test_a_cache_that_is_a_file(plan_of: Make, tmp_path: Path) -> None:
    (tmp_path / "t.cache").write_text("x")
    (row,) = plan_of(f"{MYNET} --calibData=c --timingCacheFile={tmp_path}/t.cache", "nash-m", "build").refused
    assert "hb_compile's cache is a folder" in row.why


def test_a_low_percentile_works_as_the_least(plan_of: Make) -> None:
    plan = plan_of(f"{MYNET} --calibData=c --calibAlgo=percentile --calibPercentile=40", "nash-m", "build")
    assert yaml.safe_load(plan.files["hb_compile.yaml"])["calibration_parameters"]["max_percentile"] == 0.5


def test_the_report_shows_it(plan_of: Make, tmp_path: Path) -> None:
    from ptqbridge.report import mapping

    plan = plan_of(f"--onnx={model(tmp_path / 'm.onnx', x=['n', 3, 'h', 8])} --int8", "nash-m", "build")
    assert mapping.to_dict(plan)["faults"] == list(plan.faults) != []
    shown = " ".join(mapping.text([plan]).split())
    assert "stops the build" in shown and "give --shapes=x:..." in shown
