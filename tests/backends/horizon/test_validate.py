"""What our writer makes is valid for its tool; each broken rule is found, and under its own name."""

from __future__ import annotations

import copy
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from ptqbridge.backends.horizon import schema5, schema6
from ptqbridge.backends.horizon.marches import MARCHES
from ptqbridge.backends.horizon.schema import entries
from ptqbridge.backends.horizon.validate import Report, read_yaml, validate, validate_file
from ptqbridge.backends.horizon.view import Finding
from ptqbridge.errors import InputError
from ptqbridge.plan import Plan

MODELS = ("net", "two", "gray", "nhwc", "table")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small models in a folder, with a folder of samples for each input name."""
    folder = tmp_path_factory.mktemp("models")
    shapes: dict[str, dict[str, list[Any]]] = {
        "net": {"x": [1, 3, 8, 8]},
        "two": {"x": [1, 3, 8, 8], "t": [1, 6]},
        "gray": {"x": [1, 1, 8, 8]},
        "nhwc": {"x": [1, 8, 8, 3]},
        "table": {"t": [1, 6]},
        "dynamic": {"x": ["n", 3, 8, 8]},
        "odd": {"x": [1, 3, 7, 8]},
    }
    for name, inputs in shapes.items():
        nodes = [helper.make_node("Relu", [key], [f"{key}_out"], name=f"/relu_{key}") for key in inputs]
        values = [helper.make_tensor_value_info(key, TensorProto.FLOAT, dims) for key, dims in inputs.items()]
        outputs = [helper.make_tensor_value_info(f"{key}_out", TensorProto.FLOAT, dims) for key, dims in inputs.items()]
        graph = helper.make_graph(nodes, name, values, outputs)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=7)
        onnx.save(model, str(folder / f"{name}.onnx"))
    for key in ("x", "t"):
        (folder / "calibration_data" / key).mkdir(parents=True)
    (folder / "cache").mkdir()
    return folder


def checked(plan: Plan, folder: Path) -> Report:
    """The verdict on a plan's YAML as if it lay in ``folder``."""
    text = next(text for name, text in plan.files.items() if name.endswith(".yaml"))
    return validate(yaml.safe_load(text), str(folder), target=plan.target.name)


PRECISION = (
    "",
    "--int8 --precisionConstraints=prefer --layerPrecisions=*relu*:int8",
    "--layerDeviceTypes=*:CPU",
    "--outputIOFormats=int8:chw",
    "--inputIOFormats=int8:chw",
)
CALIBRATION = (
    "",
    "--calibData=c --mean=1 --std=2",
    "--calibData=c --calibAlgo=max --scale=0.5",
    "--calibData=c --calibAlgo=entropy2 --mean=1 --std=2 --scale=0.1",
    "--calibData=c --calibAlgo=percentile --calibPercentile=99.9 --color=bgr --mean=1",
)
EFFORT = ("--builderOptimizationLevel=0", "--builderOptimizationLevel=5 --profilingVerbosity=detailed --markDebug=x")


@pytest.mark.parametrize("march", list(MARCHES))
@pytest.mark.parametrize("name", MODELS)
def test_what_we_write_is_valid(plan_of: Callable[..., Plan], models: Path, march: str, name: str) -> None:
    tried = 0
    for precision, calibration, effort in itertools.product(PRECISION, CALIBRATION, EFFORT):
        if name in ("two", "gray", "table") and "inputIOFormats" in precision and name == "two":
            precision = "--inputIOFormats=int8:chw,fp32:chw"
        if "color=bgr" in calibration and name == "gray":
            calibration = calibration.replace("--color=bgr", "--color=gray")
        cache = f"--timingCacheFile={models}/cache"
        plan = plan_of(f"--onnx={models}/{name}.onnx {precision} {calibration} {effort} {cache}", march, "build")
        assert not plan.refused, plan.refused
        report = checked(plan, models)
        assert report.ok, [finding.text() for finding in report.errors]
        tried += 1
    assert tried >= 40


@pytest.mark.parametrize("march", ["nash-e", "nash-m"])
def test_the_older_generation(plan_of: Callable[..., Plan], models: Path, march: str) -> None:
    plan = plan_of(f"--onnx={models}/net.onnx --calibData=c --mean=1", march, "build", toolchain="3.0")
    config = yaml.safe_load(plan.files["hb_compile.yaml"])
    assert validate(config, str(models), generation="3.0").ok
    config["compiler_parameters"]["cache_mode"] = "disable"
    found = validate(config, str(models), generation="3.0").errors
    assert [finding.rule for finding in found] == ["generation"]


JOURNEY6: dict[str, Any] = {
    "model_parameters": {"onnx_model": "net.onnx", "march": "nash-e", "output_model_file_prefix": "net"},
    "input_parameters": {
        "input_type_rt": "nv12",
        "input_type_train": "rgb",
        "input_layout_train": "NCHW",
        "mean_value": "1 2 3",
        "std_value": "4",
    },
    "calibration_parameters": {"cal_data_dir": "./calibration_data/x", "calibration_type": "max"},
    "compiler_parameters": {"optimize_level": "O2", "debug": True},
}
JOURNEY5: dict[str, Any] = {
    "model_parameters": {"onnx_model": "net.onnx", "march": "bayes", "output_model_file_prefix": "net"},
    "input_parameters": {
        "input_type_rt": "rgb",
        "input_type_train": "rgb",
        "input_layout_train": "NCHW",
        "input_layout_rt": "NHWC",
        "norm_type": "data_mean_and_scale",
        "mean_value": "1 2 3",
        "scale_value": 0.5,
    },
    "calibration_parameters": {"cal_data_dir": "./calibration_data/x", "calibration_type": "default"},
    "compiler_parameters": {"optimize_level": "O3"},
}
TWO = {
    "model_parameters.onnx_model": "two.onnx",
    "input_parameters.input_name": "x;t",
    "input_parameters.input_type_rt": "nv12;featuremap",
    "input_parameters.input_type_train": "rgb;featuremap",
    "input_parameters.input_layout_train": "NCHW;NCHW",
    "input_parameters.mean_value": "1 2 3;None",
    "input_parameters.std_value": "4;None",
    "calibration_parameters.cal_data_dir": "./calibration_data/x;./calibration_data/t",
}
DELETE = object()


def changed(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy of a configuration with some keys set or deleted."""
    config = copy.deepcopy(base)
    for key, value in changes.items():
        section, _, name = key.partition(".")
        if value is DELETE:
            (config[section] if name else config).pop(name or section, None)
        elif name:
            config.setdefault(section, {})[name] = value
        else:
            config[section] = value
    return config


def faults(base: dict[str, Any], changes: dict[str, Any], models: Path, **options: Any) -> list[Finding]:
    """The errors of a changed configuration."""
    return list(validate(changed(base, changes), str(models), **options).errors)


def test_the_bases_are_valid(models: Path) -> None:
    assert faults(JOURNEY6, {}, models) == faults(JOURNEY5, {}, models) == faults(JOURNEY6, TWO, models) == []


M, N, C, K = "model_parameters.", "input_parameters.", "calibration_parameters.", "compiler_parameters."
BROKEN6: list[tuple[str, dict[str, Any], str]] = [
    # model source, march, cores
    ("model", {M + "onnx_model": DELETE}, M + "onnx_model"),
    ("model", {M + "caffe_model": "a.caffemodel", M + "prototxt": "a.prototxt"}, M + "onnx_model"),
    ("model", {M + "onnx_model": DELETE, M + "caffe_model": "a.caffemodel"}, M + "onnx_model"),
    ("model", {M + "onnx_model": "net.pt"}, M + "onnx_model"),
    ("required", {M + "march": DELETE}, M + "march"),
    ("march", {M + "march": "nash-x"}, M + "march"),
    ("cores", {K + "core_num": 2}, K + "core_num"),
    ("value", {M + "march": "nash-p", K + "core_num": 5}, K + "core_num"),
    # lists and names
    ("list length", {N + "input_type_train": "rgb;rgb"}, N + "input_type_train"),
    ("list length", {**TWO, N + "mean_value": "1 2 3"}, N + "mean_value"),
    ("list form", {**TWO, N + "input_type_rt": ["nv12", "featuremap"]}, N + "input_type_rt"),
    ("names", {**TWO, N + "input_name": DELETE}, N + "input_name"),
    ("names", {**TWO, N + "input_name": "x;x"}, N + "input_name"),
    ("names", {**TWO, N + "input_name": "x;z"}, N + "input_name"),
    # shapes and images
    ("dynamic", {M + "onnx_model": "dynamic.onnx"}, N + "input_shape"),
    ("rank", {N + "input_shape": "1x3x8"}, N + "input_shape"),
    ("shape", {N + "input_shape": "1,3,8,8"}, N + "input_shape"),
    ("list length", {**TWO, N + "input_shape": "1x3x8x8"}, N + "input_shape"),
    ("image channels", {N + "input_layout_train": "NHWC"}, N + "input_layout_train"),
    (
        "image rank",
        {
            M + "onnx_model": "table.onnx",
            C + "cal_data_dir": "./calibration_data/t",
        },
        N + "input_type_rt",
    ),
    ("nv12", {M + "onnx_model": "odd.onnx"}, N + "input_type_rt"),
    ("layout", {N + "input_layout_train": DELETE}, N + "input_layout_train"),
    ("conversion", {N + "input_type_train": "yuv444", N + "input_type_rt": "rgb"}, N + "input_type_rt"),
    (
        "conversion",
        {M + "onnx_model": "gray.onnx", N + "input_type_train": "gray", N + "mean_value": "1"},
        N + "input_type_rt",
    ),
    ("bt601", {N + "input_type_rt": "rgb", N + "input_space_and_range": "bt601_video"}, N + "input_space_and_range"),
    # normalisation
    ("scale or std", {N + "scale_value": "0.1"}, N + "std_value"),
    (
        "featuremap normalisation",
        {N + "input_type_rt": "featuremap", N + "input_type_train": "featuremap"},
        N + "mean_value",
    ),
    ("channel numbers", {N + "mean_value": "1 2"}, N + "mean_value"),
    ("numbers", {N + "mean_value": "a"}, N + "mean_value"),
    ("numbers", {N + "mean_value": "nan"}, N + "mean_value"),
    ("blank entry", {**TWO, N + "input_type_rt": "nv12;None"}, N + "input_type_rt"),
    ("blank entry", {**TWO, N + "input_layout_train": "NCHW;None"}, N + "input_layout_train"),
    # batch
    ("batch", {N + "input_batch": 4, N + "input_shape": "2x3x8x8"}, N + "input_batch"),
    ("separate_batch", {N + "separate_batch": True}, N + "separate_batch"),
    ("separate", {N + "input_batch": 2, N + "separate_batch": True, N + "separate_name": "x"}, N + "separate_name"),
    # calibration
    ("calibration folders", {**TWO, C + "cal_data_dir": "./calibration_data/x"}, C + "cal_data_dir"),
    ("calibration folders", {C + "cal_data_dir": "./nowhere"}, C + "cal_data_dir"),
    ("value", {C + "calibration_type": "load"}, C + "calibration_type"),
    ("value", {C + "max_percentile": 1.5}, C + "max_percentile"),
    # compiler
    ("balance", {K + "compile_mode": "balance"}, K + "balance_factor"),
    ("value", {K + "compile_mode": "balance", K + "balance_factor": 101}, K + "balance_factor"),
    ("cache", {K + "cache_mode": "enable"}, K + "cache_path"),
    ("cache", {K + "cache_mode": "enable", K + "cache_path": "nowhere"}, K + "cache_path"),
    ("on-chip memory", {K + "max_l2m_size": 1024}, K + "max_l2m_size"),
    ("value", {M + "march": "nash-p", K + "max_l2m_size": 25165825}, K + "max_l2m_size"),
    ("input source", {K + "input_source": {"x": "ddr"}}, K + "input_source.x"),
    ("value", {K + "input_source": "pyramid"}, K + "input_source"),
    ("optimization", {C + "optimization": "set_all"}, C + "optimization"),
    ("value", {M + "remove_node_type": "Quantize;Conv"}, M + "remove_node_type"),
    ("optimize level", {K + "optimize_level": "O3"}, K + "optimize_level"),
    ("boolean", {K + "debug": "True"}, K + "debug"),
    ("boolean", {M + "enable_vpu": 1}, M + "enable_vpu"),
    ("value", {K + "max_time_per_fc": 999}, K + "max_time_per_fc"),
    ("value", {K + "max_time_per_fc": 10_000_001}, K + "max_time_per_fc"),
    ("value", {K + "jobs": -1}, K + "jobs"),
    # form
    ("unknown key", {K + "optimise_level": "O2"}, K + "optimise_level"),
    ("section", {"compiler_parameters": None}, "compiler_parameters"),
    ("section", {"others": {}}, "others"),
    ("prefix", {M + "output_model_file_prefix": ""}, M + "output_model_file_prefix"),
    # nodes and quantiser
    ("node_info", {M + "node_info": {"/relu_x": {True: "CPU"}}}, M + "node_info./relu_x"),
    ("node_info", {M + "node_info": {"/relu_x": {"ON": "GPU"}}}, M + "node_info./relu_x.ON"),
    ("node_info", {M + "node_info": "/relu_x:int4"}, M + "node_info"),
    ("quant_config", {C + "quant_config": {"layer_config": {}}}, C + "quant_config.layer_config"),
    (
        "quant_config",
        {C + "quant_config": {"model_config": {"all_node_type": "int4"}}},
        C + "quant_config.model_config.all_node_type",
    ),
    (
        "quant_config",
        {C + "quant_config": {"model_config": {"activation": {"max_percentile": 1}}}},
        C + "quant_config.model_config.activation.max_percentile",
    ),
    (
        "quant_config",
        {C + "quant_config": {"node_config": {"/relu_x": {"qtype": "fp8"}}}},
        C + "quant_config.node_config./relu_x.qtype",
    ),
    ("output nodes", {M + "output_nodes": "nothing"}, M + "output_nodes"),
    ("boolean", {K + "extra_params": {"output_no_padding": 1}}, K + "extra_params.output_no_padding"),
]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("model_config.activation", ["max"]),
        ("model_config.activation.calibration_type", ["max", "entropy"]),
        ("model_config.activation.asymmetric", "yes"),
        ("model_config.activation.num_bin", [1024, 0]),
        ("model_config.activation.max_percentile", []),
        ("model_config.activation.bins", 3),
        ("model_config.weight.bias_correction.num_sample", 0),
        ("model_config.weight.bias_correction.metric", "cosine"),
        ("model_config.weight.correction", {}),
        ("model_config.modelwise_search.similarity", 2.0),
        ("model_config.layerwise_search.topk", True),
        ("model_config.layerwise_search.qtype", "int4"),
        ("model_config.model_output_type", "int32"),
        ("op_config.Relu.ON", "CPU"),
        ("op_config.Relu", {}),
        ("subgraph_config.neck.inputs", "/relu_x"),
        ("subgraph_config.neck.qtype", "fp16"),
        ("node_config./relu_x.ON", "DLA"),
        ("node_config./relu_x.bits", 8),
    ],
)
def test_each_wrong_setting_of_the_quantiser(models: Path, key: str, value: Any) -> None:
    whole = {"inputs": ["/relu_x"], "outputs": ["/relu_x"], "qtype": "int8"}
    quant: dict[str, Any] = {"subgraph_config": {"neck": whole}} if key.startswith("subgraph") else {}
    place, names = quant, key.split(".")
    for name in names[:-1]:
        place = place.setdefault(name, {})
    place[names[-1]] = value
    found = faults(JOURNEY6, {C + "quant_config": quant}, models)
    assert {(finding.key, finding.rule) for finding in found} == {(f"{C}quant_config.{key}", "quant_config")}


def test_settings_of_the_quantiser_that_it_takes(models: Path) -> None:
    activation = {"calibration_type": ["max", "kl"], "max_percentile": [0.9999, 1.0], "num_bin": 100}
    activation |= {"per_channel": [True, False], "asymmetric": True, "max_num_bin": 16384}
    quant = {
        "model_config": {
            "all_node_type": "float16",
            "model_output_type": "int16",
            "activation": activation,
            "weight": {"bias_correction": {"num_sample": 4, "metric": "mse"}},
            "layerwise_search": {"metric": "sqnr", "topk": 3, "qtype": "int16"},
            "modelwise_search": {"similarity": 0.99},
        },
        "op_config": {"Relu": {"qtype": "int16", "OutputType": "int8"}},
        "subgraph_config": {"neck": {"inputs": ["/relu_x"], "outputs": ["/relu_x"], "qtype": "int8"}},
        "node_config": {"/relu_x": {"InputType0": "int16", "ON": "BPU"}},
    }
    report = validate(changed(JOURNEY6, {C + "quant_config": quant}), str(models))
    assert report.ok
    where = f"{C}quant_config.model_config"
    assert [(finding.key, finding.expected) for finding in report.findings] == [
        (f"{where}.activation.num_bin", "works as 129"),
        (f"{where}.modelwise_search", "is switched off by layerwise_search"),
    ]


@pytest.mark.parametrize(("rule", "changes", "key"), BROKEN6)
def test_each_broken_rule_of_hb_compile(models: Path, rule: str, changes: dict[str, Any], key: str) -> None:
    found = faults(JOURNEY6, changes, models)
    assert (key, rule) in [(finding.key, finding.rule) for finding in found]
    assert len(found) <= 3  # one cause, and what follows from it


BROKEN5: list[tuple[str, dict[str, Any], str]] = [
    ("march", {M + "march": "nash-e"}, M + "march"),
    ("section", {"input_parameters": DELETE}, "input_parameters"),
    ("layout", {N + "input_layout_rt": DELETE}, N + "input_layout_rt"),
    ("required", {N + "input_layout_train": DELETE}, N + "input_layout_train"),
    ("norm_type", {N + "mean_value": DELETE}, N + "mean_value"),
    ("unknown key", {N + "std_value": "1"}, N + "std_value"),
    ("unknown key", {C + "quant_config": {}}, C + "quant_config"),
    ("unknown key", {K + "cache_mode": "enable"}, K + "cache_mode"),
    ("calibration folders", {C + "cal_data_dir": DELETE}, C + "cal_data_dir"),
    ("value", {C + "cal_data_type": "float16"}, C + "cal_data_type"),
    ("value", {C + "calibration_type": "entropy"}, C + "calibration_type"),
    ("optimization", {C + "optimization": "set_all_int16"}, C + "optimization"),
    ("optimization", {M + "march": "bernoulli2", C + "optimization": "set_all_nodes_int16"}, C + "optimization"),
    ("node_info", {M + "node_info": {"/relu_x": {"InputType": "float16"}}}, M + "node_info./relu_x.InputType"),
    ("node_info", {M + "node_info": "a:int16;b:int16"}, M + "node_info"),
    ("batch", {N + "input_batch": 5000}, N + "input_batch"),
    ("value", {M + "output_model_file_prefix": 123}, M + "output_model_file_prefix"),
    ("value", {K + "advice": 1.5}, K + "advice"),
    ("input source", {K + "input_source": {"zzz": "ddr"}}, K + "input_source.zzz"),
    ("optimize level", {K + "optimize_level": "O4"}, K + "optimize_level"),
    ("boolean", {K + "debug": "yes"}, K + "debug"),
    (
        "featuremap normalisation",
        {N + "input_type_rt": "featuremap", N + "input_type_train": "featuremap"},
        N + "norm_type",
    ),
]


@pytest.mark.parametrize(("rule", "changes", "key"), BROKEN5)
def test_each_broken_rule_of_hb_mapper(models: Path, rule: str, changes: dict[str, Any], key: str) -> None:
    family = {"target": "bayes"} if rule == "march" else {}
    found = faults(JOURNEY5, changes, models, **family)
    assert (key, rule) in [(finding.key, finding.rule) for finding in found]


def test_all_faults_come_at_once_and_say_what_is_allowed(models: Path) -> None:
    changes = {K + "optimize_level": "O3", K + "debug": "True", N + "input_type_rt": "bgrx", K + "core_num": 2}
    found = faults(JOURNEY6, changes, models)
    assert {finding.key for finding in found} == {
        K + "optimize_level",
        K + "debug",
        N + "input_type_rt",
        K + "core_num",
    }
    level = next(finding for finding in found if finding.key == K + "optimize_level")
    assert level.text() == "error: compiler_parameters.optimize_level: expected one of O0, O1, O2, found 'O3'"


@pytest.mark.parametrize("march", [DELETE, "", "j6m"])
def test_without_a_march_those_of_both_tools_are_told(models: Path, march: Any) -> None:
    for config, target, told in ((JOURNEY6, "", "hb_mapper"), (JOURNEY5, "", "hb_compile"), (JOURNEY6, "nash-m", "")):
        found = faults(config, {M + "march": march}, models, target=target)
        (finding,) = [finding for finding in found if finding.key == M + "march"]
        assert "nash-p" in finding.expected and ("all else is checked as for" in finding.expected) == bool(told)
        assert told in finding.expected and ("bayes-e" in finding.expected) == bool(told)


def test_what_the_tools_pass_over_is_a_warning(models: Path) -> None:
    config = changed(JOURNEY6, {M + "node_info": {"nothing": {"ON": "CPU"}}, C + "mystery": 1, K + "balance_factor": 5})
    report = validate(config, str(models))
    assert report.ok
    assert {finding.rule for finding in report.findings} == {"unknown node", "unknown key", "balance"}


def test_files_count_only_where_the_model_is(models: Path, tmp_path: Path) -> None:
    assert validate(JOURNEY6, str(tmp_path)).ok
    strict = validate(JOURNEY6, str(tmp_path), strict=True).errors
    assert {finding.key for finding in strict} == {M + "onnx_model", C + "cal_data_dir"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NCHW;", ["NCHW"]),
        ("1 2 3;None", ["1 2 3", None]),
        ("1 2 3;;", ["1 2 3", None]),
        ("", []),
        (None, []),
        (0.5, ["0.5"]),
        ("'a' ; \"b\"", ["a", "b"]),
    ],
)
def test_lists_as_the_tools_read_them(text: Any, expected: list[str | None]) -> None:
    assert entries(text) == expected


def test_a_quant_config_file_has_comments(models: Path, tmp_path: Path) -> None:
    path = tmp_path / "quant.json"
    path.write_text('{"model_config": {"all_node_type": "int8"} /* all */ } // end\n')
    assert validate(changed(JOURNEY6, {C + "quant_config": str(path)}), str(models)).ok
    path.write_text('{"model_config": {"all_node_type": "int9"}}')
    assert not validate(changed(JOURNEY6, {C + "quant_config": str(path)}), str(models)).ok


def test_reading(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("model_parameters:\n  march: bayes\n  march: bayes-e\n")
    config, doubled = read_yaml(str(path))
    assert config == {"model_parameters": {"march": "bayes-e"}} and doubled == ("march",)
    for text in ("a: [", "- 1\n", "", "\t"):
        path.write_text(text)
        with pytest.raises(InputError, match=r"not YAML|expected a mapping"):
            validate_file(str(path))
    with pytest.raises(InputError, match="cannot read"):
        validate_file(str(tmp_path / "none.yaml"))


def test_published_configurations(cases: Path) -> None:
    """Configurations that people really used are valid; remarks are about files that are not here and dead keys."""
    files = sorted((cases / "yaml").glob("*.yaml"))
    assert files
    for path in files:
        report = validate_file(str(path))
        assert report.ok, (path.name, [finding.text() for finding in report.errors])
        assert report.march.journey6 == ("nash" in path.name)
        kinds = {finding.rule for finding in report.findings}
        remarks = {"model", "calibration folders", "deprecated", "unknown operator", "calibration", "extra_params"}
        assert kinds <= remarks, path.name
    assert os.path.isdir(cases)


_SCALARS = st.none() | st.booleans() | st.integers(-5, 5) | st.floats() | st.text(max_size=6) | st.dates()
_ANYTHING = st.recursive(
    _SCALARS | st.sampled_from(["nv12", "1x3x8x8", ";;", "None", "kl", "a;b", "rgb"]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(_SCALARS, inner, max_size=2),
    max_leaves=4,
)


@given(st.sampled_from([JOURNEY5, JOURNEY6]), st.data())
def test_nothing_that_yaml_can_hold_breaks_it(models: Path, base: dict[str, Any], data: st.DataObject) -> None:
    table = schema6.table() if base is JOURNEY6 else schema5.table()
    paths = [f"{section}.{key}" for section, keys in table.items() for key in keys] + list(table) + ["what"]
    changes = data.draw(st.dictionaries(st.sampled_from(paths), _ANYTHING, min_size=1, max_size=3))
    sections = {path.partition(".")[0] for path in changes if "." in path}
    changes = {path: value for path, value in changes.items() if "." in path or path not in sections}
    for finding in validate(changed(base, changes), str(models)).findings:
        assert finding.text() and finding.to_dict()
