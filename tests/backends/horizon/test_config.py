"""The YAML: keys that each tool knows, lists per input, quoting, shapes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import yaml
from onnx import TensorProto, helper

from ptqbridge.plan import Plan

_MODEL = {"onnx_model", "caffe_model", "prototxt", "march", "working_dir", "output_model_file_prefix"}
_MODEL |= {"layer_out_dump", "output_nodes", "remove_node_type", "node_info"}
_INPUT = {"input_name", "input_type_rt", "input_type_train", "input_layout_train", "input_shape", "input_batch"}
_INPUT |= {"mean_value", "scale_value"}
_CALIBRATION = {"cal_data_dir", "calibration_type", "max_percentile", "optimization"}
_COMPILER = {"compile_mode", "optimize_level", "advice", "debug"}
KEYS = {
    "bayes": {
        "model_parameters": _MODEL,
        "input_parameters": _INPUT | {"input_layout_rt", "norm_type"},
        "calibration_parameters": _CALIBRATION | {"cal_data_type"},
        "compiler_parameters": _COMPILER,
        "custom_op": {"custom_op_method", "op_register_files", "custom_op_dir"},
    },
    "nash-p": {
        "model_parameters": _MODEL | {"enable_vpu"},
        "input_parameters": _INPUT | {"std_value"},
        "calibration_parameters": _CALIBRATION | {"quant_config"},
        "compiler_parameters": _COMPILER | {"cache_mode", "cache_path", "max_l2m_size"},
        "custom_op": {"custom_op_method", "op_register_files", "custom_op_dir"},
    },
}
EVERYTHING = (
    "--onnx=examples/mynet/mynet.onnx --calibData=c --calibAlgo=percentile --calibPercentile=99.9 --mean=1 --std=2 "
    "--scale=0.5 --color=bgr --layout=nchw --saveEngine=o/a.bin --precisionConstraints=prefer "
    "--layerPrecisions=*Conv:int8 --layerOutputTypes=*Conv:int8 --layerDeviceTypes=/fc/Gemm:CPU "
    "--outputIOFormats=int8:chw --builderOptimizationLevel=1 --profilingVerbosity=detailed --timingCacheFile=cache "
    "--memPoolSize=dlaSRAM:2 --markDebug=x --staticPlugins=ops/my.py --shapes=input1:1x3x28x28"
)


def config(plan: Plan) -> dict[str, Any]:
    """The plan's YAML, read back."""
    return yaml.safe_load(next(text for name, text in plan.files.items() if name.endswith(".yaml")))


@pytest.mark.parametrize("target", ["bayes", "nash-p"])
def test_only_keys_that_the_tool_knows(plan_of: Callable[..., Plan], target: str) -> None:
    plan = plan_of(EVERYTHING, target, "build")
    assert not plan.refused
    for section, entries in config(plan).items():
        assert set(entries) <= KEYS[target][section]
        assert entries
        for value in entries.values():
            assert not isinstance(value, list)  # a YAML list is not understood: ";" joins


def test_journey5_normalisation_and_nodes(plan_of: Callable[..., Plan]) -> None:
    made = config(plan_of(EVERYTHING, "bayes", "build"))
    inputs = made["input_parameters"]
    assert (inputs["mean_value"], inputs["scale_value"]) == ("2", "0.25")
    assert inputs["norm_type"] == "data_mean_and_scale"
    assert (inputs["input_type_rt"], inputs["input_type_train"]) == ("bgr", "bgr")
    nodes = made["model_parameters"]["node_info"]
    assert nodes["/features/features.0/Conv"] == {"InputType": "int8", "OutputType": "int8"}
    assert nodes["/fc/Gemm"] == {"ON": "CPU"}
    assert made["model_parameters"]["working_dir"] == "./model_output"
    assert made["model_parameters"]["output_model_file_prefix"] == "a"
    assert Path(made["model_parameters"]["onnx_model"]).is_absolute()


def test_the_key_on_is_quoted(plan_of: Callable[..., Plan]) -> None:
    plan = plan_of("--onnx=m.onnx --layerDeviceTypes=a:CPU", "bayes", "build")
    assert "'ON': CPU" in plan.files["hb_mapper.yaml"]


def test_journey6_takes_std_and_quant_config(plan_of: Callable[..., Plan]) -> None:
    made = config(plan_of(EVERYTHING, "nash-p", "build"))
    inputs = made["input_parameters"]
    assert (inputs["mean_value"], inputs["std_value"]) == ("2", "4")
    assert "scale_value" not in inputs and "norm_type" not in inputs and "input_layout_rt" not in inputs
    quant = made["calibration_parameters"]["quant_config"]
    assert quant["model_config"] == {"model_output_type": "int8"}
    assert quant["node_config"]["/features/features.3/Conv"] == {"qtype": "int8", "OutputType": "int8"}
    assert made["compiler_parameters"]["max_l2m_size"] == 2 * 2**20
    assert made["compiler_parameters"]["cache_mode"] == "enable"


def _two_inputs(path: Path) -> None:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["N", 3, 4, 4])
    extra = helper.make_tensor_value_info("extra", TensorProto.FLOAT, [1, 3, 4, "W"])
    result = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    graph = helper.make_graph(
        [helper.make_node("Concat", ["image", "extra"], ["out"], axis=3)], "g", [image, extra], [result]
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))


def test_lists_have_an_entry_per_input(plan_of: Callable[..., Plan], tmp_path: Path) -> None:
    _two_inputs(tmp_path / "two.onnx")
    plan = plan_of(f"--onnx={tmp_path}/two.onnx --calibData=c --shapes=extra:1x3x4x8", "bayes", "build")
    inputs = config(plan)["input_parameters"]
    assert inputs["input_name"] == "image;extra"
    assert inputs["input_shape"] == "1x3x4x4;1x3x4x8"
    assert inputs["input_type_rt"] == "featuremap;featuremap"
    assert inputs["input_layout_train"] == inputs["input_layout_rt"] == "NCHW;NCHW"
    assert config(plan)["calibration_parameters"]["cal_data_dir"] == "./calibration_data/image;./calibration_data/extra"
    assert any("batch of image becomes 1" in fill.why for fill in plan.fills)
    assert any("opset 13" in note for note in plan.notes)


def test_only_pictures_are_normalised(plan_of: Callable[..., Plan], tmp_path: Path) -> None:
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 4, 4])
    extra = helper.make_tensor_value_info("extra", TensorProto.FLOAT, [1, 4])
    graph = helper.make_graph([helper.make_node("Identity", ["image"], ["o"])], "g", [extra, image], [])
    graph.output.append(helper.make_tensor_value_info("o", TensorProto.FLOAT, [1, 3, 4, 4]))
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
    onnx.save(model, str(tmp_path / "two.onnx"))
    line = f"--onnx={tmp_path}/two.onnx --calibData=c --mean=1,2,3"
    inputs = config(plan_of(line, "bayes", "build"))["input_parameters"]
    assert inputs["mean_value"] == "None;1 2 3"
    assert inputs["norm_type"] == "no_preprocess;data_mean"
    assert inputs["input_type_rt"] == "featuremap;rgb"


def test_a_dynamic_dimension_behind_the_batch_is_said(plan_of: Callable[..., Plan], tmp_path: Path) -> None:
    _two_inputs(tmp_path / "two.onnx")
    plan = plan_of(f"--onnx={tmp_path}/two.onnx", "bayes", "build")
    assert any("--shapes=extra:" in note for note in plan.notes)
