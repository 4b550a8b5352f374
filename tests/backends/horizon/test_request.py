"""The recipe beside the data reaches the tool's configuration as the options do; load and skip take no samples."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import yaml
from onnx import TensorProto, helper, numpy_helper

from ptqbridge.errors import OptionError
from ptqbridge.plan import Plan
from ptqbridge.rulebook import Verdict

MYNET = "--onnx=examples/mynet/mynet.onnx --int8"
RECIPE = "color: bgr\nlayout: nchw\nscale: 1/255\nmean: [0.5, 0.4, 0.3]\nstd: [0.25, 0.25, 0.25]\nresize: crop:28x28\n"


def inputs(plan: Plan, name: str = "hb_mapper.yaml") -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(plan.files[name])["input_parameters"]
    return found


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data folder with a recipe."""
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "recipe.yaml").write_text(RECIPE)
    return tmp_path / "d"


@pytest.mark.parametrize("target", ["bayes", "nash-m"])
def test_the_recipe_does_what_the_options_do(plan_of: Callable[..., Plan], data: Path, target: str) -> None:
    words = "--color=bgr --layout=nchw --scale=1/255 --mean=0.5,0.4,0.3 --std=0.25 --resize=crop:28x28"
    name = "hb_mapper.yaml" if target == "bayes" else "hb_compile.yaml"
    said = inputs(plan_of(f"{MYNET} --calibData={data}", target), name)
    (data / "recipe.yaml").unlink()
    meant = inputs(plan_of(f"{MYNET} --calibData={data} {words}", target), name)
    wide = {"std_value": "63.75 63.75 63.75"} if target == "nash-m" else {"scale_value": said.get("scale_value")}
    assert said == meant | wide
    assert said["input_type_train"] == "bgr"
    assert said["mean_value"] == "127.5 102 76.5"


def test_options_win_and_the_report_says_where_the_rest_is_from(plan_of: Callable[..., Plan], data: Path) -> None:
    plan = plan_of(f"{MYNET} --calibData={data} --mean=0.1 --color=rgb")
    found = inputs(plan)
    assert (found["mean_value"], found["input_type_train"]) == ("25.5", "rgb")
    sources = {row.option: row.source for row in plan.rows}
    assert sources["--std=0.25,0.25,0.25"] == str(data / "recipe.yaml")
    assert "--mean=0.5,0.4,0.3" not in sources
    assert any(note == f"{data / 'recipe.yaml'} says --std, --scale, --layout, --resize: no option does"
               for note in plan.notes)  # fmt: skip


def test_an_explicit_float_input_stays_one(plan_of: Callable[..., Plan], data: Path) -> None:
    found = inputs(plan_of(f"{MYNET} --calibData={data} --inputIOFormats=fp32:chw"))
    assert (found["input_type_rt"], found["norm_type"]) == ("featuremap", "no_preprocess")
    assert "mean_value" not in found


def test_a_recipe_that_leaves_pixels_alone_says_nothing(plan_of: Callable[..., Plan], data: Path) -> None:
    (data / "recipe.yaml").write_text("preset: raw\n")
    assert inputs(plan_of(f"{MYNET} --calibData={data}"))["input_type_rt"] == "featuremap"


def test_a_wrong_recipe_is_named(plan_of: Callable[..., Plan], data: Path) -> None:
    (data / "recipe.yaml").write_text("meen: 1\n")
    with pytest.raises(OptionError, match=r"recipe\.yaml: .*unknown key 'meen'"):
        plan_of(f"{MYNET} --calibData={data}")


# --calibAlgo=load and skip


def quantized(path: Path) -> Path:
    """A convolution whose input goes through Q/DQ nodes."""
    weights = {
        "w": np.ones((4, 3, 3, 3), np.float32), "s": np.array(0.5, np.float32), "z": np.array(0, np.int8)
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], "q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], "d"),
        helper.make_node("Conv", ["d", "w"], ["y"], "c"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 6, 6])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6), path)
    return path


def method(plan: Plan) -> str:
    return str(yaml.safe_load(plan.files["hb_mapper.yaml"])["calibration_parameters"]["calibration_type"])


def test_load_takes_the_ranges_of_q_dq_nodes(plan_of: Callable[..., Plan], tmp_path: Path) -> None:
    model = quantized(tmp_path / "q.onnx")
    plan = plan_of(f"--onnx={model} --int8 --calibAlgo=load")
    assert not plan.refused
    assert method(plan) == "load"
    assert not plan.performance_only
    asks = any("--calibAlgo=load" in note for note in plan_of(f"--onnx={model}").notes)
    assert asks


def test_load_is_refused_where_no_range_is_to_be_had(plan_of: Callable[..., Plan]) -> None:
    row = plan_of(f"{MYNET} --calibAlgo=load").refused[0]
    assert "no QuantizeLinear" in row.why
    assert "hb_compile has no load" in plan_of(f"{MYNET} --calibAlgo=load", "nash-m").refused[0].why


@pytest.mark.parametrize("target", ["bayes", "nash-m"])
def test_skip_is_for_timing_only(plan_of: Callable[..., Plan], data: Path, target: str) -> None:
    plan = plan_of(f"{MYNET} --calibAlgo=skip --calibData={data}", target)
    assert plan.performance_only.startswith("--calibAlgo=skip: the ranges are made up")
    rows = {row.option.partition("=")[0]: row for row in plan.rows}
    assert rows["--calibData"].verdict is Verdict.IGNORED
    assert rows["--calibAlgo"].verdict is Verdict.EXACT
    text = plan.files["hb_mapper.yaml" if target == "bayes" else "hb_compile.yaml"]
    assert yaml.safe_load(text)["calibration_parameters"]["calibration_type"] == "skip"
    assert "cal_data_dir" not in text
