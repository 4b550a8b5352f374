"""``--horizonYaml``: laid over, absolute paths, checked, reported."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from ptqbridge.backends.horizon.overlay import lay_over, load_overlay
from ptqbridge.backends.horizon.settings import Settings
from ptqbridge.errors import InputError
from ptqbridge.plan import Plan
from ptqbridge.rulebook import Verdict

MYNET = "--onnx=examples/mynet/mynet.onnx"


def test_mappings_merge_null_removes_the_rest_replaces() -> None:
    settings = Settings(
        yaml={
            "calibration_parameters.quant_config.model_config": {"all_node_type": "int8"},
            "model_parameters.node_info": {"a": {"ON": "CPU"}},
            "compiler_parameters.debug": True,
            "compiler_parameters.optimize_level": "O2",
        }
    )
    lay_over(
        settings,
        {
            "calibration_parameters": {"quant_config": {"op_config": {"Softmax": {"qtype": "int16"}}}},
            "model_parameters": {"node_info": {"b": {"ON": "BPU"}}},
            "compiler_parameters": {"debug": None, "optimize_level": "O1", "jobs": 4},
        },
    )
    assert settings.yaml == {
        "calibration_parameters.quant_config": {
            "model_config": {"all_node_type": "int8"},
            "op_config": {"Softmax": {"qtype": "int16"}},
        },
        "model_parameters.node_info": {"a": {"ON": "CPU"}, "b": {"ON": "BPU"}},
        "compiler_parameters.optimize_level": "O1",
        "compiler_parameters.jobs": 4,
    }


def test_it_reaches_the_yaml_and_the_report(plan_of: Callable[..., Plan], tmp_path: Path) -> None:
    overlay = tmp_path / "more.yaml"
    (tmp_path / "data").mkdir()
    overlay.write_text(
        "input_parameters: {input_type_rt: nv12}\n"
        "calibration_parameters: {cal_data_dir: ./data}\n"
        "compiler_parameters: {compile_mode: bandwidth}\n"
    )
    plan = plan_of(f"{MYNET} --mean=1 --horizonYaml={overlay}", "nash-m", "build")
    made = yaml.safe_load(plan.files["hb_compile.yaml"])
    assert made["input_parameters"]["input_type_rt"] == "nv12"
    assert made["input_parameters"]["input_type_train"] == "rgb"
    assert made["compiler_parameters"]["compile_mode"] == "bandwidth"
    assert made["calibration_parameters"] == {"cal_data_dir": str(tmp_path / "data")}
    assert plan.performance_only == "" and not plan.settings["fast_perf"]
    row = next(row for row in plan.rows if row.option.startswith("--horizonYaml"))
    assert row.verdict is Verdict.EXACT and "compiler_parameters.compile_mode" in row.becomes


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("compiler_parameters: {optimize_level: O3}", "compiler_parameters.optimize_level: expected one of O0, O1, O2"),
        ("compiler_parameters: {optimise: O1}", "compiler_parameters.optimise: is no key of hb_compile"),
        ("input_parameters: {input_type_rt: nv12; nv12}", "input_type_rt: expected 1 entry, one per input, not 2"),
        ("model_parameters: {march: nash-e}", "expected nash-m, the target asked for"),
    ],
)
def test_what_breaks_a_rule_is_refused(plan_of: Callable[..., Plan], tmp_path: Path, text: str, words: str) -> None:
    overlay = tmp_path / "more.yaml"
    overlay.write_text(text)
    (refused,) = plan_of(f"{MYNET} --calibData=c --mean=1 --horizonYaml={overlay}", "nash-m", "build").refused
    assert refused.option.startswith("--horizonYaml") and words in refused.why


@pytest.mark.parametrize(("text", "words"), [("a: 1", "below a"), ("[", "not YAML"), ("a: {b: 1}\na: {}", "twice")])
def test_files_that_are_no_overlay(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "o.yaml").write_text(text)
    with pytest.raises(InputError, match=words):
        load_overlay(str(tmp_path / "o.yaml"))
