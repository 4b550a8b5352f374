"""Which generation of hb_compile is there: from its package, else by asking the program, remembered per program.

Generation 3.5 has keys and flags that 3.0 refuses. A program tells by ``--version`` where it has that, else by its
``--help``: ``--core-num`` and the marches beyond nash-e and nash-m came after 3.0 (Horizon's OE-Skills 0.2.0; the
manual of OE 3.0).
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from ptqbridge.backends.horizon.run import find_tool
from ptqbridge.errors import PtqbridgeError
from ptqbridge.plan import Request

TOOL = "hb_compile"
NEWEST, OLDEST = "3.5", "3.0"
_PACKAGE = "horizon_tc_ui"
"""The Python package hb_compile is part of; it has the same version."""
_VERSION = re.compile(r"\b(\d+)\.(\d+)(?:\.\d\w*)*")
_TIMEOUT_S = 120


@dataclass(frozen=True)
class Probed:
    """``generation`` is 3.5 or 3.0, ``version`` the tool's own word ("" when unknown), ``why`` how that is known."""

    generation: str
    version: str = ""
    why: str = ""


def probe(place: str = "local", *, ask: bool = True) -> Probed | None:
    """The generation of the hb_compile at ``place`` (a --toolchain value); None when there is none, or it is not known.

    Here a program is asked once and remembered until it changes; elsewhere what was last heard counts, and ``ask``
    hears anew. Raises ToolchainMissing when a place that is asked cannot be reached.
    """
    if place in ("", "local"):
        program = find_tool(TOOL)
        return _here(os.path.abspath(program)) if program else None
    memory = _memory(place)
    if not ask:
        return _remembered(memory)
    found = _asked(place, TOOL)
    if found:
        _remember(memory, found)
    return found


def probe_for(request: Request) -> None:
    """Before a build elsewhere: ask the tool there, unless --toolchainVersion says it. Raises ToolchainMissing."""
    place = next((item.value for item in request.asked if item.name == "toolchain"), "local")
    if place != "local" and not request.gave("toolchainVersion", "dryRun", "loadEngine"):
        probe(place)


def _here(program: str) -> Probed | None:
    packaged = _packaged(program)
    if packaged:
        return packaged
    stat = os.stat(program)
    memory = _memory(json.dumps([program, stat.st_size, stat.st_mtime_ns]))
    found = _remembered(memory)
    if found is None:
        with suppress(PtqbridgeError):
            found = _asked("local", program)
        if found:
            _remember(memory, found)
    return found


def _packaged(program: str) -> Probed | None:
    """From the package's folder beside the Python that the program's first line names; nothing is run."""
    try:
        with open(program, "rb") as file:
            first = file.readline(4096)
    except OSError:
        return None
    words = first[2:].decode("utf-8", "replace").split() if first.startswith(b"#!") else []
    roots = {Path(path).parent.parent for path in [program, *words[:1]] if os.path.isabs(path)}
    for root in sorted(roots):
        for info in sorted(root.glob(f"lib/python3*/site-packages/{_PACKAGE}-*-info")):
            found = _VERSION.search(info.name.removeprefix(f"{_PACKAGE}-"))
            if found:
                return _by_version(found, f"its package {_PACKAGE} says so")
    return None


def _asked(place: str, program: str) -> Probed | None:
    from ptqbridge.toolchains.select import select

    with tempfile.TemporaryDirectory(prefix="ptqbridge-") as folder, select(place) as toolchain:
        work = Path(folder) / "probe"
        work.mkdir()
        toolchain.stage(work)

        def run(word: str) -> tuple[int, str]:
            log = Path(folder) / "log"
            done = toolchain.run((program, word), work, log=log, timeout=_TIMEOUT_S)
            return done.status, done.text

        return read_answers(run("--version"), lambda: run("--help"))


def read_answers(version: tuple[int, str], ask_help: Callable[[], tuple[int, str]]) -> Probed | None:
    """What the answers (status, text) to --version and --help say; None when they say nothing.

    ``ask_help`` is called only when the first does not tell.
    """
    status, text = version
    found = _VERSION.search(text) if status == 0 else None
    if found:
        return _by_version(found, f"{TOOL} --version says so")
    status, text = ask_help()
    if status or "--march" not in text:
        return None
    recent = "--core-num" in text or "nash-p" in text
    lacks = "has" if recent else "lacks"
    return Probed(NEWEST if recent else OLDEST, "", f"its --help {lacks} what came after 3.0")


def _by_version(found: re.Match[str], why: str) -> Probed:
    recent = (int(found[1]), int(found[2])) >= (3, 5)
    return Probed(NEWEST if recent else OLDEST, found[0], why)


def by_version(version: str) -> str:
    """The generation of a version such as 3.5.16; "" for anything else."""
    found = _VERSION.match(version)
    return _by_version(found, "").generation if found else ""


def _memory(key: str) -> Path:
    home = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG base directory specification: a relative path there does not count.
    base = Path(home) if os.path.isabs(home) else Path.home() / ".cache"
    return base / "ptqbridge" / TOOL / f"{hashlib.sha256(key.encode()).hexdigest()}.json"


def _remembered(memory: Path) -> Probed | None:
    try:
        known = json.loads(memory.read_text(encoding="utf-8"))
        found = Probed(known["generation"], str(known["version"]), str(known["why"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return found if found.generation in (NEWEST, OLDEST) else None


def _remember(memory: Path, found: Probed) -> None:
    from ptqbridge.files import write_atomic

    with suppress(OSError, PtqbridgeError):  # a memory that cannot be written costs time only
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(memory, json.dumps(vars(found)) + "\n")
