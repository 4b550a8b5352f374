"""Every failure that hb_mapper is known for, through the command line, with the double of the tool."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
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


def test_builds_side_by_side_share_no_working_directory(tmp_path: Path) -> None:
    """Four at once, of one model, from one folder: four places, four logs, four products, nothing left."""
    tool = failures.double(tmp_path / "bin")
    (tmp_path / "tmp").mkdir()
    env = {**os.environ, "PYTHONPATH": str(failures.ROOT / "src"), "PTQBRIDGE_HB_MAPPER": str(tool)}
    env |= {"TMPDIR": str(tmp_path / "tmp"), "DOUBLE_COMPILE_S": "2"}
    argv = [sys.executable, "-m", "ptqbridge", "build", "--target=bayes", *failures.example(tmp_path)]
    started = [
        subprocess.Popen([*argv, f"--saveEngine={tmp_path}/{number}.bin"], cwd=tmp_path, env=env) for number in range(4)
    ]
    assert [process.wait(timeout=180) for process in started] == [0] * 4
    logs = [(tmp_path / f"{number}.hb_mapper.log").read_text() for number in range(4)]
    places = {re.search(r"log will be stored in (\S+)", text)[1] for text in logs}  # type: ignore[index]
    assert len(places) == 4
    assert all(text.count("End Model Convert") == 1 for text in logs)
    assert all((tmp_path / f"{number}.bin").read_bytes() for number in range(4))
    assert list((tmp_path / "tmp").iterdir()) == []
