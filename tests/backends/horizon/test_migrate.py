"""hb_mapper YAMLs become valid hb_compile YAMLs; comments stay; decisions are listed; samples are converted."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("ruamel.yaml", reason="the extra ptqbridge[migrate] is not installed")

from ptqbridge.backends.horizon import comments, migrate, resample
from ptqbridge.backends.horizon.marches import MARCHES
from ptqbridge.backends.horizon.validate import validate
from ptqbridge.errors import InputError

OLD = """\
# first words
model_parameters:
  onnx_model: m.onnx  # the network
  march: bayes
  log_level: debug  # said no more
  # before the types
  remove_node_type: "Quantize;DequantizeFilter"
input_parameters:
  input_name: 'a;b'
  input_type_rt: 'nv12;featuremap'
  input_type_train: 'rgb;featuremap'
  input_layout_train: 'NCHW;NCHW'
  input_layout_rt: 'NHWC;NHWC'
  input_shape: 1x3x4x4;1x5
  norm_type: 'data_mean;no_preprocess'  # normal
  mean_value: 1 2 3;None
  scale_value: 0.5;None
calibration_parameters:
  cal_data_dir: ./a_f32;./b_f32
  calibration_type: max
  max_percentile: 0.9
  optimization: set_Softmax_input_int16,set_model_output_int8;asymmetric;run_fast;set_all_nodes_int16
compiler_parameters:
  core_num: 2  # both
  max_time_per_fc: 20000000
# last words
"""


def migrated(text: str, target: str) -> tuple[dict[str, Any], str, list[migrate.Decision]]:
    """The new content, its text, and the decisions."""
    config = comments.load(text, "c.yaml")
    decisions = migrate.migrate(config, MARCHES[target])
    new = comments.dump(config)
    return yaml.safe_load(new), new, decisions


def test_every_rule_once() -> None:
    new, text, decisions = migrated(OLD, "nash-m")
    assert new["model_parameters"] == {
        "onnx_model": "m.onnx",
        "march": "nash-m",
        "remove_node_type": "Quantize;Dequantize",
    }
    inputs = new["input_parameters"]
    assert inputs["mean_value"] == "1 2 3;None"
    assert not {"scale_value", "norm_type", "input_layout_rt"} & set(inputs)
    assert new["calibration_parameters"] == {
        "cal_data_dir": "./a_f32;./b_f32",
        "calibration_type": "max",
        "max_percentile": 0.995,
        "quant_config": {
            "op_config": {"Softmax": {"InputType": "int16"}},
            "model_config": {
                "model_output_type": "int8",
                "activation": {"asymmetric": True},
                "all_node_type": "int16",
            },
        },
    }
    assert new["compiler_parameters"] == {"core_num": 1, "max_time_per_fc": 10_000_000, "optimize_level": "O2"}
    for words in ("first words", "the network", "said no more", "before the types", "normal", "both", "last words"):
        assert f"# {words}" in text
    told = {decision.key for decision in decisions}
    assert {"model_parameters.log_level", "input_parameters.scale_value", "compiler_parameters.core_num"} <= told
    todo = [decision.text() for decision in decisions if decision.human]
    assert any("run_fast" in line for line in todo) and any("NAME_y and NAME_uv" in line for line in todo)
    assert any("featuremap inputs are NCHW" in line for line in todo)
    assert validate(new, "/nowhere", target="nash-m").ok


def test_more_cores_where_there_are_some() -> None:
    assert migrated(OLD, "nash-p")[0]["compiler_parameters"]["core_num"] == 2


def test_load_is_refused() -> None:
    with pytest.raises(InputError, match="load takes thresholds"):
        migrated(OLD.replace("calibration_type: max", "calibration_type: load"), "nash-m")


def test_published_configurations(cases: Path) -> None:
    files = [path for path in sorted((cases / "yaml").glob("*.yaml")) if "nash" not in path.name]
    assert files
    for path in files:
        old = path.read_text(encoding="utf-8")
        for target in ("nash-e", "nash-m", "nash-p", "nash-b-lite"):
            new, text, decisions = migrated(old, target)
            report = validate(new, str(path.parent), target=target)
            assert report.ok, (path.name, [finding.text() for finding in report.errors])
            assert not [finding for finding in report.findings if finding.rule in ("deprecated", "unknown key")]
            assert decisions[0].what.endswith(f"-> {target}")
            for comment in re.findall(r"(?m)(?:^|\s)#\s*(\S.*)$", old):
                assert comment.strip() in text, path.name


def test_a_file_that_is_no_yaml() -> None:
    for text in ("a: [", "- 1", "a: b: c"):
        with pytest.raises(InputError, match=r"c\.yaml"):
            comments.load(text, "c.yaml")


def _samples(folder: Path) -> dict[str, Any]:
    generator = np.random.default_rng(0)
    for name, shape in (("a_f32", (1, 3, 4, 4)), ("b_f32", (1, 5))):
        (folder / name).mkdir()
        for index in range(3):
            generator.integers(0, 256, shape).astype(np.float32).tofile(folder / name / f"{index}.bin")
    config: dict[str, Any] = yaml.safe_load(OLD)
    config["input_parameters"]["norm_type"] = "data_mean_and_scale;no_preprocess"
    return config


def test_samples_are_normalised(tmp_path: Path) -> None:
    config = _samples(tmp_path)
    folders, count = resample.convert_samples(config, str(tmp_path), str(tmp_path / "new"))
    assert count == 3 and [Path(folder).name for folder in folders] == ["a", "b"]
    raw = np.fromfile(tmp_path / "a_f32" / "1.bin", np.float32).reshape(1, 3, 4, 4)
    made = np.load(tmp_path / "new" / "a" / "00001.npy", allow_pickle=False)
    assert made.dtype == np.float32
    np.testing.assert_allclose(made, (raw - np.array([1, 2, 3]).reshape(1, 3, 1, 1)) * 0.5, rtol=1e-6)
    raw_b = np.fromfile(tmp_path / "b_f32" / "2.bin", np.float32).reshape(1, 5)
    np.testing.assert_array_equal(np.load(tmp_path / "new" / "b" / "00002.npy", allow_pickle=False), raw_b)


def test_samples_that_do_not_fit(tmp_path: Path) -> None:
    config = _samples(tmp_path)
    (tmp_path / "b_f32" / "0.bin").write_bytes(b"123")
    with pytest.raises(InputError, match=r"0\.bin: expected 20 bytes \(float32 1x5\), found 3"):
        resample.convert_samples(config, str(tmp_path), str(tmp_path / "new"))
    (tmp_path / "b_f32" / "0.bin").unlink()
    with pytest.raises(InputError, match=r"as many samples for each input, found \[3, 2\]"):
        resample.convert_samples(config, str(tmp_path), str(tmp_path / "new"))
    assert not (tmp_path / "new").exists() and not list(tmp_path.glob(".new*"))
    (tmp_path / "new").mkdir()
    with pytest.raises(InputError, match="is there already"):
        resample.convert_samples(config, str(tmp_path), str(tmp_path / "new"))
    del config["input_parameters"]["input_shape"]
    with pytest.raises(InputError, match="shape of input a is not known"):
        resample.convert_samples(config, str(tmp_path), str(tmp_path / "new2"))
