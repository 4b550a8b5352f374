"""Running hb_mapper in a workspace: its path, its environment, its progress, its log as a record."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ptqbridge.backends.horizon.errors5 import explain_failure
from ptqbridge.backends.horizon.judge import check_success
from ptqbridge.backends.horizon.logs5 import Record, parse_log
from ptqbridge.backends.horizon.stages5 import Stage, Stages
from ptqbridge.backends.horizon.workspace import JOB, TEMPORARY, Workspace
from ptqbridge.errors import PtqbridgeError, ToolchainFailed, ToolchainMissing
from ptqbridge.toolchains.local import Local
from ptqbridge.toolchains.program import Finished, Toolchain

VARIABLE = "PTQBRIDGE_HB_MAPPER"
LOG = "hb_mapper.log"
Progress = Callable[[Stage], None]


@dataclass(frozen=True)
class Run:
    """One run of hb_mapper that succeeded; ``log`` is where its console output was kept."""

    record: Record
    finished: Finished
    log: Path


def program(toolchain: Toolchain) -> str:
    """What to call hb_mapper: here the variable PTQBRIDGE_HB_MAPPER, else PATH; elsewhere that place's PATH decides.

    Raises ToolchainMissing when it is not on this machine.
    """
    if not isinstance(toolchain, Local):
        return "hb_mapper"
    named = os.environ.get(VARIABLE, "")
    beside = os.path.dirname(sys.executable)  # installed in one environment with us, which need not be switched on
    found = shutil.which(named or "hb_mapper") or (None if named else shutil.which("hb_mapper", path=beside))
    if found:
        return os.path.realpath(found)  # its compiler lies beside the program, not beside a link to it
    looked = f"{VARIABLE}={named} is no program" if named else f"it is not on PATH, and {VARIABLE} is not set"
    raise ToolchainMissing(
        f"hb_mapper was not found ({looked})",
        hint="'ptqbridge toolchain install hb-mapper VENV' makes an environment that has it; "
        "--dryRun --out=DIR writes its configuration and commands without it",
    )


def run_hb_mapper(
    place: Workspace,
    argv: Sequence[str],
    toolchain: Toolchain,
    *,
    log: Path,
    product: str = "",
    progress: Progress | None = None,
    timeout: float | None = None,
) -> Run:
    """Run ``argv`` (its first word, hb_mapper, is replaced by the program's path) in ``place`` and judge the outcome.

    ``product``, seen from the working directory, is fetched and must be there afterwards; without one (the checker),
    the checker's own mark decides. ``log`` keeps the console output however it ends; errors name it. Raises what
    ``explain_failure`` makes of a failure, ToolchainMissing when the tool or its place is not there.
    """
    stages = Stages()

    def hear(line: str) -> None:
        stage = stages.hear(line)
        if stage and progress:
            progress(stage)

    words = (program(toolchain), *argv[1:])
    toolchain.stage(place.root)
    env = {"TMPDIR": toolchain.inside(place.root, TEMPORARY), "PYTHONUNBUFFERED": "1"}
    finished = toolchain.run(words, place.root, cwd=JOB, log=log, on_line=hear, env=env, timeout=timeout)
    record = parse_log(finished.text)
    try:
        if product:
            if finished.status == 0:
                toolchain.fetch(place.root, f"{JOB}/{os.path.dirname(product)}")
            check_success(finished, record, place.job / product)
        elif finished.timed_out or finished.status or not record.checked:
            raise _checker_failure(finished)
    except PtqbridgeError as error:
        raise type(error)(error.message, hint="; ".join(filter(None, (error.hint, f"log: {log}")))) from None
    return Run(record, finished, log)


def _checker_failure(finished: Finished) -> PtqbridgeError:
    if finished.timed_out:
        return ToolchainFailed(f"hb_mapper checker was ended after {finished.seconds:.0f} s")
    if finished.status == 0:
        return ToolchainFailed("hb_mapper checker ended with status 0, but its log does not say that it finished")
    return explain_failure(finished.text, finished.status, tool="hb_mapper checker")
