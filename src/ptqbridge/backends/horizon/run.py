"""Whether the vendor's programs are there, and the way out when they are not."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path
from typing import NoReturn

from ptqbridge.errors import ToolchainMissing
from ptqbridge.plan import Plan


def tool_variable(tool: str) -> str:
    """The environment variable that names a tool's program."""
    return f"PTQBRIDGE_{tool.upper()}"


def find_tool(tool: str) -> Path | None:
    """The tool's program: what its environment variable names, else the first on PATH."""
    found = shutil.which(os.environ.get(tool_variable(tool), "") or tool)
    return Path(found) if found else None


def require_board(plan: Plan) -> NoReturn:
    """Raises ToolchainMissing (exit 4): no board was named; says how, and what to type on a board by hand."""
    command = next((step.argv for step in plan.steps if step.argv[:1] == ("hrt_model_exec",)), ())
    by_hand = f"; by hand on the board: {shlex.join(command)}" if command else ""
    way = f"--board=ssh://root@HOST or --board=local; --skipInference only builds{by_hand}"
    raise ToolchainMissing(f"{plan.target.name}: no board was named to run on", hint=way)
