"""What a .hbm takes on the board."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ptqbridge.plan import Plan

MYNET = "--onnx=examples/mynet/mynet.onnx"
Y = {"name": "input1_y", "shape": [1, 28, 28, 1], "dtype": "uint8", "image": "Y"}
UV = {"name": "input1_uv", "shape": [1, 14, 14, 2], "dtype": "uint8", "image": "UV"}
FLOAT = {"name": "input1", "shape": [1, 3, 28, 28], "dtype": "float32"}
RGB = {"name": "input1", "shape": [1, 28, 28, 3], "dtype": "int8", "image": "RGB"}


@pytest.mark.parametrize(
    ("words", "kind", "source", "tensors"),
    [
        ("", "nv12", "pyramid", [Y, UV]),  # fast-perf
        ("--int8 --calibData=c", "featuremap", "ddr", [FLOAT]),
        ("--int8 --calibData=c --mean=0.5 --std=0.5", "rgb", "ddr", [RGB]),
    ],
)
def test_inputs(
    plan_of: Callable[..., Plan], words: str, kind: str, source: str, tensors: list[dict[str, Any]]
) -> None:
    plan = plan_of(f"{MYNET} {words}", "nash-m", "build")
    assert plan.settings["board_inputs"] == [{"input": "input1", "type": kind, "source": source, "tensors": tensors}]


def test_an_overlay_makes_nv12_and_a_resizer(plan_of: Callable[..., Plan], tmp_path: Path) -> None:
    over = tmp_path / "over.yaml"
    over.write_text(
        "input_parameters: {input_type_rt: nv12, input_type_train: rgb}\n"
        "compiler_parameters: {input_source: {input1: resizer}}\n"
    )
    plan = plan_of(f"{MYNET} --int8 --calibData=c --horizonYaml={over}", "nash-m", "build")
    (entry,) = plan.settings["board_inputs"]
    assert (entry["type"], entry["source"]) == ("nv12", "resizer")
    assert [tensor["name"] for tensor in entry["tensors"]] == ["input1_y", "input1_uv", "input1_roi"]


def test_journey_5_has_none(plan_of: Callable[..., Plan]) -> None:
    assert "board_inputs" not in plan_of(MYNET, "bayes", "build").settings
    assert plan_of("--loadEngine=m.hbm", "nash-m", "run").settings["board_inputs"] == []
