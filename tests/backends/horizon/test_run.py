"""Finding the vendor's programs, and exit 4 with the way out when no board is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from ptqbridge.backends.horizon.backend import BACKEND
from ptqbridge.backends.horizon.run import find_tool
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


def test_a_tool_is_found_by_its_variable_then_on_path(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_tool("hb_compile") is None
    on_path = _install(bare / "hb_compile")
    assert find_tool("hb_compile") == on_path
    (bare / "elsewhere").mkdir()
    named = _install(bare / "elsewhere" / "compile")
    monkeypatch.setenv("PTQBRIDGE_HB_COMPILE", str(named))
    assert find_tool("hb_compile") == named


def test_without_a_board_the_command_is_named(plan_of: Callable[..., Plan]) -> None:
    plan = plan_of("--loadEngine=m.hbm", "nash-m", "run")
    with pytest.raises(ToolchainMissing) as caught:
        BACKEND.run(plan, "m.hbm", say=print)
    assert caught.value.exit_status == 4
    assert "--board=ssh://root@HOST" in caught.value.hint
    assert "hrt_model_exec perf --model_file=m.hbm" in caught.value.hint
    assert BACKEND.device_info(plan)["Selected Device"] == "nash-m (Journey 6M, RDK S100P)"
