"""Exit 4 with what was looked for and the way out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ptqbridge.backends import resolve
from ptqbridge.backends.horizon.backend import BACKEND
from ptqbridge.backends.horizon.run import find_tool, require
from ptqbridge.errors import ToolchainMissing
from ptqbridge.plan import Plan


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without any vendor tool; its PATH is one empty folder."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for tool in ("HB_MAPPER", "HB_COMPILE"):
        monkeypatch.delenv(f"PTQBRIDGE_{tool}", raising=False)
    return tmp_path


def _install(path: Path) -> Path:
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(("target", "tool"), [("bayes", "hb_mapper"), ("nash-m", "hb_compile")])
def test_the_tool_is_missing(target: str, tool: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ToolchainMissing) as caught:
        require(resolve(target))
    assert caught.value.exit_status == 4
    assert caught.value.message == (
        f"{target}: {tool} was not found (not on PATH, and PTQBRIDGE_{tool.upper()} is not set)"
    )
    assert "--dryRun" in caught.value.hint and "container" in caught.value.hint
    monkeypatch.setenv(f"PTQBRIDGE_{tool.upper()}", "/nowhere/tool")
    with pytest.raises(ToolchainMissing, match="/nowhere/tool is no program"):
        require(resolve(target))


def test_a_tool_that_is_there_is_not_driven_yet(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    on_path = _install(bare / "hb_mapper")
    assert find_tool("hb_mapper") == on_path
    with pytest.raises(ToolchainMissing, match="only explains Horizon builds"):
        require(resolve("bayes"))
    (bare / "elsewhere").mkdir()
    named = _install(bare / "elsewhere" / "mapper")
    monkeypatch.setenv("PTQBRIDGE_HB_MAPPER", str(named))
    assert find_tool("hb_mapper") == named


def test_the_backend_refuses_to_build_and_run(plan_of: Callable[..., Plan]) -> None:
    plan = plan_of("--onnx=m.onnx --saveEngine=m.hbm", "nash-m")
    with pytest.raises(ToolchainMissing, match="hb_compile was not found"):
        BACKEND.build(plan, say=print, progress=None)
    with pytest.raises(ToolchainMissing) as caught:
        BACKEND.run(plan, "m.hbm", say=print)
    assert "hrt_model_exec perf --model_file=m.hbm" in caught.value.hint
    assert BACKEND.device_info(plan)["Selected Device"] == "nash-m (Journey 6M, RDK S100P)"
