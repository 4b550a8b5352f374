"""``ptqbridge validate``: exit status 3 with every fault, 0 with remarks, JSON."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

GOOD = """\
model_parameters: {onnx_model: m.onnx, march: nash-e}
input_parameters: {input_type_rt: featuremap, input_type_train: featuremap}
calibration_parameters: {calibration_type: skip}
"""


def test_good_and_bad(ptq: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(GOOD)
    good = ptq("validate", "c.yaml")
    assert (good.status, good.err) == (0, "")
    assert good.out.splitlines()[-1] == "c.yaml: valid for hb_compile 3.5, nash-e; 1 remark"
    (tmp_path / "c.yaml").write_text(GOOD.replace("march: nash-e", "march: nash-e, enable_vpu: 'yes'") + "more: {}\n")
    bad = ptq("validate", "c.yaml")
    assert bad.status == 3
    assert "error: model_parameters.enable_vpu: expected true or false" in bad.out and "error: more:" in bad.out
    assert bad.err == "ptqbridge: error: c.yaml: 2 errors for hb_compile 3.5, nash-e\n"


def test_json(ptq: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(GOOD + "compiler_parameters: {optimize_level: O3}\n")
    answer = ptq("validate", "c.yaml", "--json")
    record = json.loads(answer.out)
    assert (answer.status, record["ok"], record["exit_status"]) == (3, False, 3)
    assert record["errors"] == [
        {
            "severity": "error",
            "key": "compiler_parameters.optimize_level",
            "value": "O3",
            "expected": "expected one of O0, O1, O2",
            "rule": "optimize level",
        }
    ]
    assert json.loads(ptq("validate", "none.yaml", "--json").out)["exit_status"] == 3


def test_targets_and_generations(ptq: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "c.yaml").write_text(GOOD)
    assert "expected nash-m, the target asked for, found 'nash-e'" in ptq("validate", "c.yaml", "--target=j6m").out
    assert ptq("validate", "c.yaml", "--target=cpu").status == 2
    assert ptq("validate", "c.yaml", "--toolchainVersion=3.0").status == 0
    assert ptq("validate", "c.yaml", "--strict").status == 3
    assert ptq("validate").status == 2
