"""Whether the vendor's programs are there, and the way out when they are not."""

from __future__ import annotations

import os
import shlex
import shutil
from pathlib import Path
from typing import NoReturn

from ptqbridge.backends.horizon.marches import MARCHES
from ptqbridge.errors import ToolchainMissing
from ptqbridge.plan import Plan, Target

_WAY_OUT = "--dryRun --out=DIR writes its configuration and commands, to be run inside the vendor's container"


def tool_variable(tool: str) -> str:
    """The environment variable that names a tool's program."""
    return f"PTQBRIDGE_{tool.upper()}"


def find_tool(tool: str) -> Path | None:
    """The tool's program: what its environment variable names, else the first on PATH."""
    found = shutil.which(os.environ.get(tool_variable(tool), "") or tool)
    return Path(found) if found else None


def require(target: Target) -> NoReturn:
    """Raises ToolchainMissing (exit 4): the compiler was not found, or this version cannot drive it yet."""
    tool = MARCHES[target.name].tool
    found = find_tool(tool)
    if found:
        raise ToolchainMissing(
            f"{target.name}: {tool} is there ({found}), but this version only explains Horizon builds", hint=_WAY_OUT
        )
    variable = tool_variable(tool)
    named = os.environ.get(variable, "")
    looked = f"{variable}={named} is no program" if named else f"not on PATH, and {variable} is not set"
    raise ToolchainMissing(f"{target.name}: {tool} was not found ({looked})", hint=_WAY_OUT)


def require_board(plan: Plan) -> NoReturn:
    """Raises ToolchainMissing (exit 4): this version cannot run anything on a board yet; names the command to type."""
    command = next((step.argv for step in plan.steps if step.argv[:1] == ("hrt_model_exec",)), ())
    hint = f"on the board: {shlex.join(command)}" if command else "hrt_model_exec on the board runs the artifact"
    raise ToolchainMissing(
        f"{plan.target.name}: this version lists the board's commands and does not run them", hint=hint
    )
