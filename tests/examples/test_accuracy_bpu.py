"""The example's accuracy on a BPU: what it says without the tool (tests/real has the figures)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path


def test_without_hb_mapper_it_ends_as_the_build_does(root: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(root / "src"), "PTQBRIDGE_HB_MAPPER": "/none"}
    words = [sys.executable, str(root / "examples" / "mynet" / "accuracy_bpu.py"), "--methods=max"]
    run = subprocess.run(words, env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 4
    assert run.stderr.startswith("accuracy_bpu: ptqbridge build: hb_mapper was not found")
    assert "Traceback" not in run.stderr
