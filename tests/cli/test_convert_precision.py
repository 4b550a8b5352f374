"""``convert-precision``: the model with Q/DQ or Casts, and what was done to it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest


def test_int8_and_fp16_from_samples(ptq: Callable[..., object], root: Path, tmp_path: Path) -> None:
    mynet, out = root / "examples" / "mynet", tmp_path / "m.onnx"
    words = (f"--onnx={mynet}/mynet.onnx", f"--calibData={mynet}/calib", "--calibSamples=10", f"--out={out}")
    answer = ptq("convert-precision", *words, "--int8", "--calibAlgo=max", "--json")
    assert answer.status == 0, answer.err
    report = json.loads(answer.out)
    assert report["ok"] is True and report["edits"] == ["Q/DQ nodes from our calibration"]
    assert report["facts"]["cosine_to_float32"]["lowest"]["output1"] > 0.999
    assert "QuantizeLinear" in {node.op_type for node in onnx.load(out).graph.node}


@pytest.mark.parametrize(
    ("words", "status", "says"),
    [
        (["--onnx=MODEL"], 2, "nothing to write into the model"),
        (["--fp16"], 2, "--onnx"),
        (["--onnx=MODEL", "--fp16", "--out=m.engine"], 2, "--out: expected the name of an .onnx file"),
        (["--onnx=MODEL", "--fp16", "--target=cpu"], 2, "--target"),
        (["--onnx=MODEL", "--fp16", "--useCudaGraph"], 2, "has no use for it"),
        (["--onnx=gone.onnx", "--fp16"], 3, "gone.onnx was not found"),
        (["--onnx=MODEL", "--int8", "--calib=gone.cache"], 3, "gone.cache was not found"),
        (["--onnx=MODEL", "--int8", "--strict"], 2, "--strict"),
    ],
)
def test_bad_input(ptq: Callable[..., object], root: Path, words: list[str], status: int, says: str) -> None:
    model = str(root / "examples" / "mynet" / "mynet.onnx")
    answer = ptq("convert-precision", *(word.replace("MODEL", model) for word in words))
    assert answer.status == status, answer.err
    assert says in answer.err
    assert len([line for line in answer.err.splitlines() if line.startswith("ptqbridge: error")]) == 1
