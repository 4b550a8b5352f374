"""The article's trtexec command on TensorRT 8.6, 10 and 11, side by side, without the module: a golden text.

To renew it after a wanted change: PTQBRIDGE_RENEW=1 python -m pytest tests/backends/tensorrt/test_article.py
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ptqbridge.cli import main

COMMAND = (
    *("--onnx=static.onnx", "--saveEngine=static.engine", "--useCudaGraph", "--noDataTransfers", "--useSpinWait"),
    *("--infStreams=8", "--maxAuxStreams=8", "--builderOptimizationLevel=5", "--threads", "--best", "--verbose"),
    *("--profilingVerbosity=detailed", "--dumpProfile", "--dumpLayerInfo", "--separateProfileRun", "--avgRuns=100"),
    "--iterations=1000",
)


def test_the_three_generations(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    assert main(["explain", "--target=trt", "--trtVersion=8.6,10,11", *COMMAND]) == 0
    found = capsys.readouterr().out
    golden = root / "tests" / "cases" / "tensorrt" / "article.txt"
    if os.environ.get("PTQBRIDGE_RENEW"):
        golden.parent.mkdir(exist_ok=True)
        golden.write_text(found)
    assert found == golden.read_text()


def test_each_generation_keeps_the_meaning(root: Path) -> None:
    text = (root / "tests" / "cases" / "tensorrt" / "article.txt").read_text()
    parts = text.split("== trt ")
    assert [part.split()[0] for part in parts[1:]] == ["8.6", "10", "11"]
    assert "set_flag(trt.BuilderFlag.INT8)" in parts[1] and "allow_bf16(" in parts[2]
    assert "BuilderFlag.INT8" not in parts[3] and "model.edited.onnx" in parts[3]
    assert all("config.builder_optimization_level = 5" in part for part in parts[1:])
    assert all("17 options" in part or "options:" in part for part in parts[1:])
