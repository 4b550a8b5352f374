"""A YAML comes back as a command line that gives an equivalent YAML."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from ptqbridge.backends.horizon.equal import differences, normal, same
from ptqbridge.backends.horizon.marches import MARCHES
from ptqbridge.backends.horizon.reverse import Reversed, plan_of, planned_yaml, reverse
from ptqbridge.backends.horizon.validate import read_yaml, validate
from ptqbridge.backends.horizon.view import march_of


def round_trip(config: dict[str, Any], folder: str, tmp_path: Path) -> Reversed:
    """Reverse a YAML, plan what came out, and compare."""
    march = march_of(config)
    made = reverse(config, folder, march)
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(yaml.safe_dump(dict(made.overlay)))
    words = [*made.words, f"--horizonYaml={overlay}"] if made.overlay else list(made.words)
    plan = plan_of(words, march)
    assert not plan.refused, plan.refused
    again = normal(planned_yaml(plan), os.getcwd(), march)
    assert differences(normal(config, folder, march), again) == []
    return made


def test_published_configurations_round_trip(cases: Path, tmp_path: Path) -> None:
    files = sorted((cases / "yaml").glob("*.yaml"))
    assert files
    for path in files:
        made = round_trip(read_yaml(str(path))[0], str(path.parent), tmp_path)
        assert {"--target", "--onnx", "--saveEngine"} <= {word.partition("=")[0] for word in made.words}


def test_options_are_used_where_there_are_some(tmp_path: Path) -> None:
    config = {
        "model_parameters": {
            "onnx_model": "m.onnx",
            "march": "bayes",
            "working_dir": "out",
            "output_model_file_prefix": "net",
            "node_info": {"a": {"ON": "CPU"}, "b": {"InputType": "int16", "OutputType": "int8"}},
        },
        "input_parameters": {
            "input_name": "x",
            "input_shape": "1x3x8x8",
            "input_type_rt": "bgr",
            "input_type_train": "bgr",
            "input_layout_train": "NCHW",
            "input_layout_rt": "NCHW",
            "norm_type": "data_mean_and_scale",
            "mean_value": "1 2 3;",
            "scale_value": 0.5,
        },
        "calibration_parameters": {"cal_data_dir": "c_f32", "calibration_type": "max", "max_percentile": 0.9999},
        "compiler_parameters": {"optimize_level": "O1", "debug": False},
    }
    (tmp_path / "m.onnx").touch()
    made = round_trip(config, str(tmp_path / "x"), tmp_path)
    assert made.words[3:] == (
        "--builderOptimizationLevel=1",
        "--profilingVerbosity=none",
        "--shapes=x:1x3x8x8",
        "--layout=nchw",
        "--color=bgr",
        "--scale=0.5",
        "--mean=0.5,1,1.5",
        "--calibAlgo=percentile",
        "--calibPercentile=99.99",
        "--precisionConstraints=prefer",
        "--layerPrecisions=b:int16",
        "--layerOutputTypes=b:int8",
        "--layerDeviceTypes=a:CPU",
    )
    assert set(made.overlay) == {"calibration_parameters"}
    assert made.overlay["calibration_parameters"]["cal_data_dir"] == str(tmp_path / "x" / "c_f32")


_KINDS = {
    "compiler_parameters.compile_mode": st.sampled_from(["latency", "bandwidth"]),
    "compiler_parameters.debug": st.booleans(),
    "compiler_parameters.jobs": st.integers(1, 64),
    "compiler_parameters.optimize_level": st.sampled_from(["O0", "O1", "O2"]),
    "compiler_parameters.advice": st.integers(0, 2),
    "model_parameters.layer_out_dump": st.booleans(),
    "model_parameters.remove_node_type": st.sampled_from(["Quantize", "Dequantize;Quantize", "Cast; Reshape;"]),
    "model_parameters.node_info": st.dictionaries(
        st.sampled_from(["/a/Conv", "b:c", "d,e", "f*"]),
        st.fixed_dictionaries({}, optional={"ON": st.just("CPU"), "InputType": st.just("int16")}),
    ),
    "calibration_parameters.calibration_type": st.sampled_from(["max", "kl"]),
    "calibration_parameters.max_percentile": st.floats(0.6, 1),
    "calibration_parameters.run_on_cpu": st.just("n1;n2"),
    "input_parameters.input_type_rt": st.sampled_from(["rgb", "nv12", "bgr"]),
    "input_parameters.input_space_and_range": st.just("regular"),
    "input_parameters.scale_value": st.sampled_from([0.25, "0.1 0.2 0.3"]),
    "input_parameters.mean_value": st.sampled_from([3, "103.53 116.28 123.675", "1,2,3"]),
    "input_parameters.input_shape": st.just("1x3x8x8"),
}


@given(st.sampled_from(["nash-m", "nash-p", "bayes", "bernoulli2"]), st.fixed_dictionaries({}, optional=_KINDS))
def test_any_configuration_round_trips(
    tmp_path_factory: pytest.TempPathFactory, march: str, keys: dict[str, Any]
) -> None:
    config: dict[str, Any] = {
        "model_parameters": {"onnx_model": "m.onnx", "march": march},
        "input_parameters": {"input_type_rt": "rgb", "input_type_train": "rgb", "input_layout_train": "NHWC"},
        "calibration_parameters": {"cal_data_dir": "./data"},
    }
    for path, value in keys.items():
        section, _, key = path.partition(".")
        config.setdefault(section, {})[key] = value
    if not MARCHES[march].journey6:
        named = [word for word in ("mean", "scale") if f"input_parameters.{word}_value" in keys]
        norm = f"data_{'_and_'.join(named)}" if named else "no_preprocess"
        config["input_parameters"] |= {"input_layout_rt": "NHWC", "norm_type": norm}
        config["model_parameters"].pop("node_info", None) if march == "bernoulli2" else None
    shape = config["input_parameters"].get("input_shape")
    if shape:
        config["input_parameters"]["input_layout_train"] = "NCHW"
    assert validate(config, "/nowhere").ok
    round_trip(config, "/nowhere", tmp_path_factory.getbasetemp())


def test_equality_of_numbers_and_booleans() -> None:
    assert same((0.003921568627451,), (0.00392156862745,)) and not same(1, 1.001)
    assert not same(True, 1) and same({"a": (1, None)}, {"a": (1.0, None)})
