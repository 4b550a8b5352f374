"""``ptqbridge import``: the printed line, used as it is, gives an equivalent YAML."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

CONFIG = """\
model_parameters: {onnx_model: net.onnx, march: nash-m, working_dir: out, output_model_file_prefix: net}
input_parameters: {input_type_rt: nv12, input_type_train: rgb, input_layout_train: NCHW, scale_value: 0.5}
calibration_parameters: {cal_data_dir: ./data, calibration_type: max}
compiler_parameters: {optimize_level: O1, jobs: 8}
"""


def test_the_line_works_as_printed(ptq: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG)
    answer = ptq("import", "c.yaml")
    assert answer.status == 0
    words = shlex.split(answer.out)
    assert words[:3] == ["ptqbridge", "build", "--target=nash-m"] and words[-1] == "--horizonYaml=c.overlay.yaml"
    assert "compiler_parameters.jobs" in answer.err
    assert ptq(*words[1:], "--dryRun", "--out=bundle").status == 0
    made = yaml.safe_load((tmp_path / "bundle" / "hb_compile.yaml").read_text())
    assert made["input_parameters"]["input_type_rt"] == "nv12"
    assert made["compiler_parameters"]["optimize_level"] == "O1" and made["compiler_parameters"]["jobs"] == 8
    assert made["calibration_parameters"]["cal_data_dir"] == str(tmp_path / "data")


def test_json_and_bad_input(ptq: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(CONFIG)
    record = json.loads(ptq("import", "c.yaml", "--json").out)
    assert record["ok"] and record["differs"] == [] and "--target=nash-m" in record["argv"]
    (tmp_path / "c.yaml").write_text(CONFIG.replace("O1", "O7"))
    bad = ptq("import", "c.yaml")
    assert bad.status == 3 and "optimize_level" in bad.err and "ptqbridge validate" in bad.err
    assert ptq("import", "none.yaml").status == 3
