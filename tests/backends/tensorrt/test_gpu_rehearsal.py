"""tests/gpu/run.py rehearsed without a GPU: its checks on ONNX Runtime behind TensorRT's and the driver's interface.

It shows that the script, the command lines and the comparisons work, and nothing about TensorRT.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

CHECKS = {
    "8.6.1": ("fp32", "late_output", "bf16"),
    "10.13.3": ("int8_from_our_ranges", "weight_streaming"),
    "11.4.0": ("int8_from_qdq", "engine_info"),
}
SKIPPED = {"bf16"}


def double(name: str) -> Any:
    """A module of tests/doubles."""
    path = Path(__file__).parents[2] / "doubles" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler (cc), which makes the stand-in driver")
@pytest.mark.parametrize("version", CHECKS)
def test_the_script_and_its_checks(version: str, tmp_path: Path, root: Path) -> None:
    double("cuda_stub").compile_stub(tmp_path)
    double("tensorrt_onnxruntime").install(tmp_path / "site", version)
    paths = os.pathsep.join((str(tmp_path / "site"), str(root / "src")))
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path), "PYTHONPATH": paths, "PTQBRIDGE_CUDA": "driver"}
    words = [str(root / "tests" / "gpu" / "run.py"), "--out", str(tmp_path / "gpu.json"), *CHECKS[version]]
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert record["tensorrt"] == version
    results = {name: found["result"] for name, found in record["checks"].items()}
    assert results == {name: "skipped" if name in SKIPPED else "passed" for name in CHECKS[version]}
