"""TensorRT on a real GPU: each check of checks.py as a test, skipped with a reason where there is no module or device.

``python tests/gpu/run.py`` makes the same checks without pytest, within ten minutes, and writes one JSON file.
"""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest

from ptqbridge.backends.tensorrt.run import missing_device, missing_module

MISSING = "; ".join(text for text in (missing_module(), missing_device()) if text)
LIMIT_S = 300


def module(name: str) -> Any:
    """A neighbour of this file."""
    spec = importlib.util.spec_from_file_location(f"gpu_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec is not None and spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


CHECKS, RUN = module("checks"), module("run")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One for all checks: they share an engine."""
    return str(tmp_path_factory.mktemp("engines"))


@pytest.mark.gpu
@pytest.mark.skipif(bool(MISSING), reason=MISSING or "here")
@pytest.mark.parametrize("name", CHECKS.CHECKS)
def test_on_the_gpu(name: str, folder: str) -> None:
    found = RUN.make(name, folder, LIMIT_S)
    if found["result"] == "skipped":
        pytest.skip(found["reason"])
    assert found["result"] == "passed", found.get("reason")


@pytest.mark.skipif(not MISSING, reason="a GPU is here")
def test_the_script_says_why_it_checks_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert RUN.main(["--out", str(tmp_path / "gpu.json")]) == 4
    assert MISSING in capsys.readouterr().err
    assert not (tmp_path / "gpu.json").exists() and "tensorrt" not in sys.modules
