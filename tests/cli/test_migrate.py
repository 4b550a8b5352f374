"""``ptqbridge migrate``: writes, lists, checks itself, converts samples."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

pytest.importorskip("ruamel.yaml", reason="the extra ptqbridge[migrate] is not installed")

OLD = """\
model_parameters: {onnx_model: m.onnx, march: bayes}
input_parameters:
  input_type_rt: rgb  # pixels
  input_type_train: rgb
  input_layout_train: NCHW
  input_layout_rt: NHWC
  input_shape: 1x3x2x2
  norm_type: data_scale
  scale_value: 0.5
calibration_parameters: {cal_data_dir: ./raw_f32}
"""


def test_write_and_convert(ptq: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "raw_f32").mkdir()
    np.full((1, 3, 2, 2), 8, np.float32).tofile(tmp_path / "raw_f32" / "0.bin")
    (tmp_path / "old.yaml").write_text(OLD)
    (tmp_path / "j6").mkdir()
    answer = ptq("migrate", "old.yaml", "--target=j6m", "--out=j6/new.yaml", "--calibOut=j6/data")
    assert (answer.status, answer.err) == (0, "")
    assert "j6/new.yaml: valid for hb_compile" in answer.out and "1 sample per input converted" in answer.out
    text = (tmp_path / "j6" / "new.yaml").read_text()
    new = yaml.safe_load(text)
    assert "# pixels" in text
    assert new["model_parameters"]["onnx_model"] == "../m.onnx"
    assert new["calibration_parameters"]["cal_data_dir"] == "data/input0"
    made = np.load(tmp_path / "j6" / "data" / "input0" / "00000.npy", allow_pickle=False)
    assert made.shape == (1, 3, 2, 2) and float(made.max()) == 4.0
    assert ptq("validate", "j6/new.yaml", "--target=j6m").status == 0


def test_to_standard_output_and_json(ptq: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text(OLD)
    answer = ptq("migrate", "old.yaml", "--target=nash-e")
    assert yaml.safe_load(answer.out)["model_parameters"]["march"] == "nash-e"
    assert "to do: calibration_parameters.cal_data_dir: the samples must be converted" in answer.err
    record = json.loads(ptq("migrate", "old.yaml", "--target=nash-e", "--json").out)
    assert record["ok"] and any(row["human"] for row in record["decisions"])


def test_bad_input(ptq: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "old.yaml").write_text(OLD)
    assert ptq("migrate", "old.yaml").status == 2
    assert ptq("migrate", "old.yaml", "--target=bayes").status == 2
    assert ptq("migrate", "none.yaml", "--target=j6m").status == 3
    (tmp_path / "new.yaml").write_text(OLD.replace("bayes", "nash-m"))
    again = ptq("migrate", "new.yaml", "--target=j6m")
    assert again.status == 3 and "Journey 6 configuration already" in again.err
    (tmp_path / "bad.yaml").write_text(OLD.replace("norm_type", "normtype"))
    bad = ptq("migrate", "bad.yaml", "--target=j6m")
    assert bad.status == 3 and "hb_mapper itself would refuse it" in bad.err
