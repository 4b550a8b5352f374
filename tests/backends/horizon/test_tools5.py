"""The tools beside hb_mapper: where they are, and what hb_model_info says."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from ptqbridge.backends.horizon.tools5 import MODEL, call, model_info, parse_model_info, tool
from ptqbridge.backends.horizon.workspace import workspace
from ptqbridge.errors import ToolchainFailed, ToolchainMissing
from ptqbridge.toolchains.docker import Docker
from ptqbridge.toolchains.local import Local

# Printed by hb_model_info 1.24.3 for a model built with fast-perf; colours as they are, some lines left out.
_START = "2026-11-22 15:22:59,7{:02d} \x1b[92mINFO\x1b[0m "
REAL = """Start hb_model_info....
hb_model_info version 1.24.3

********************* mynet **********************
############# model deps info #############
hb_mapper version   : 1.24.3
hbdk version        : 3.49.15
hbdk runtime version: 3.15.55.0
############# model_parameters info #############
BPU march           : bayes
remove node type    : ['Quantize', 'Transpose']
############# input_parameters info #############
------------------------------------------
---------input info : input1 ---------
input_name          : input1
input_type_rt       : nv12
input_space&range   : regular
input_layout_rt     : NCHW
input_type_train    : bgr
input_shape         : 1x3x28x28
---------input info : input1 end -------
------------------------------------------
############# calibration_parameters info #############
calibration_type    : skip
############# compiler_parameters info #############
input-source        : {'input1': 'pyramid', '_default_value': 'ddr'}
--------- input/output types -------------------
model input types   : [<InputDataType.NV12: 7>]
--------- deleted nodes -------------------
deleted nodes: output1_HzDequantize"""


def test_the_real_answer_is_read() -> None:
    text = "\n".join(_START.format(number) + line for number, line in enumerate(REAL.splitlines()))
    info = parse_model_info(text)
    assert (info.name, info.march, info.deleted) == ("mynet", "bayes", ("output1_HzDequantize",))
    assert info.versions == {"hb_mapper": "1.24.3", "hbdk": "3.49.15", "hbdk runtime": "3.15.55.0"}
    (entry,) = info.inputs
    assert (entry.name, entry.kind, entry.layout, entry.shape) == ("input1", "nv12", "NCHW", (1, 3, 28, 28))
    assert entry.details["input_space&range"] == "regular"
    assert info.settings["calibration_parameters"] == {"calibration_type": "skip"}
    assert info.to_dict()["inputs"][0]["shape"] == [1, 3, 28, 28]


@pytest.mark.parametrize("text", ["", "no log at all\n", "2026-11-22 15:22:59,700 INFO key : value\n"])
def test_other_text_is_no_model(text: str) -> None:
    info = parse_model_info(text)
    assert (info.march, info.inputs) == ("", ())


def test_tools_lie_beside_hb_mapper(tools5: Path) -> None:
    assert tool(Local(), "hbdk-sim") == str(tools5 / "hbdk-sim")
    assert tool(Local(), "python") == str(tools5 / "python")
    assert tool(Docker("image"), "hbdk-sim") == "hbdk-sim"
    assert tool(Docker("image"), "python") == "python3"
    with pytest.raises(ToolchainMissing, match="hb_perf was not found beside"):
        tool(Local(), "hb_perf")


def test_the_python_is_the_one_that_runs_hb_mapper(tools5: Path, tmp_path: Path) -> None:
    own = tmp_path / "python3.10"
    own.write_text("#!/bin/sh\n")
    own.chmod(stat.S_IRWXU)
    (tools5 / "hb_mapper").write_text(f"#!{own}\nimport sys\n")
    assert tool(Local(), "python") == str(own)


def test_a_failure_has_the_tools_words(tools5: Path) -> None:
    with workspace() as place, Local() as toolchain:
        (place.job / MODEL).write_text("nonsense")
        with pytest.raises(ToolchainFailed, match="hb_model_info ended with status 255: ERROR: load model failed"):
            model_info(place, toolchain)
        with pytest.raises(ToolchainFailed, match="python ended with status 3: no word"):
            call(place, toolchain, "python", "-c", "raise SystemExit(3)")


def test_nothing_is_left_behind(bin5: Callable[..., Path], tools5: Path, tmp_path: Path) -> None:
    artifact = bin5()
    before = sorted(os.listdir(tmp_path))
    with workspace(tmp_path) as place, Local() as toolchain:
        place.copy(artifact, MODEL)
        assert model_info(place, toolchain).march == "bayes"
    assert sorted(os.listdir(tmp_path)) == before
