"""Every failure that hb_mapper is known for, through the command line, with the double of the tool."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest


def _load() -> Any:
    path = Path(__file__).resolve().parents[2] / "doubles" / "hb_mapper_failures.py"
    spec = importlib.util.spec_from_file_location("hb_mapper_failures", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


failures = _load()


@pytest.mark.parametrize("name", failures.CASES)
def test_failure(name: str, tmp_path: Path) -> None:
    case = failures.CASES[name]
    tool = failures.double(tmp_path / "bin")
    (tmp_path / "work").mkdir()
    failures.check_case(case, failures.run_case(case, tmp_path / "work", tool))


@pytest.mark.parametrize("fault", ["quiet", "empty", "none", "status"])
def test_a_tool_that_lies(fault: str, tmp_path: Path) -> None:
    case = failures.Case(failures.example, 5, "", started=True, env={"DOUBLE_FAULT": fault})
    tool = failures.double(tmp_path / "bin")
    (tmp_path / "work").mkdir()
    failures.check_case(case, failures.run_case(case, tmp_path / "work", tool))
