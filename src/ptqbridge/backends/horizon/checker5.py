"""Which operators the BPU will not take, as hb_mapper's checker tells; its answer is remembered.

The checker converts and compiles at the compiler's lowest level (docs/performance.md has what that costs), so it is
asked only on --checkOperators or --reportCapabilityDLA; an answer that is remembered is told in every build. It says
nothing certain of the build itself: it takes no YAML, is stricter in some ways and laxer in others.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from ptqbridge.backends.horizon.hb_mapper import program, run_hb_mapper
from ptqbridge.backends.horizon.preflight import Preflight
from ptqbridge.backends.horizon.workspace import Workspace, workspace
from ptqbridge.errors import InputError, ToolchainFailed, ToolchainMissing
from ptqbridge.files import write_atomic
from ptqbridge.model.save import save_model
from ptqbridge.plan import Plan
from ptqbridge.toolchains.local import Local
from ptqbridge.toolchains.program import Toolchain

MODEL = "model.onnx"
LOG = "hb_mapper_checker.log"
Say = Callable[[str], None]


def copy_model(place: Workspace, check: Preflight, name: str) -> None:
    """The model to build, with its external data, into the working directory."""
    model = check.model
    if check.converted:
        save_model(model.proto, place.job / name)
        return
    place.copy(model.path, name)
    home = Path(model.path).resolve().parent
    for file in model.external_files:
        place.copy(file, str(file.resolve().relative_to(home)))


def check_operators(plan: Plan, check: Preflight, toolchain: Toolchain, *, log: Path, say: Say) -> dict[str, Any]:
    """Nodes on the CPU by the checker, told through ``say``; empty when it was not asked and nothing is remembered.

    A failure of the checker is told and no more: the build itself decides. ``log`` is the build's; the checker's lies
    beside it when it fails. Raises ToolchainMissing.
    """
    memory = _memory(plan, check, toolchain)
    answer = _remembered(memory)
    if not answer and plan.settings.get("checker"):
        say("asking hb_mapper's checker which operators the BPU takes")
        try:
            answer = _ask(plan, check, toolchain, log.with_name(LOG))
        except (ToolchainFailed, InputError) as error:
            say(f"pre-flight: {error.message} ({error.hint})" if error.hint else f"pre-flight: {error.message}")
            return {"failed": error.message}
        if memory:
            with suppress(InputError):  # a memory that cannot be written costs time only
                _write(memory, answer)
    if answer:
        say(f"pre-flight: {told(answer)}")
    return dict(answer)


def told(answer: Mapping[str, Any]) -> str:
    """One line."""
    cpu = answer["cpu"]
    if not cpu:
        return f"the checker puts all {answer['nodes']} nodes on the BPU"
    kinds = Counter(node["type"] for node in cpu)
    shown = ", ".join(f"{count} {kind}" if count > 1 else kind for kind, count in kinds.most_common(6))
    first = ", ".join(node["name"] for node in cpu[:3]) + (", ..." if len(cpu) > 3 else "")
    return f"the checker puts {len(cpu)} of {answer['nodes']} nodes on the CPU: {shown} ({first})"


def _ask(plan: Plan, check: Preflight, toolchain: Toolchain, log: Path) -> dict[str, Any]:
    shapes = [word for name, dims in plan.settings.get("shapes", {}).items() for word in ("--input-shape", name, dims)]
    with workspace() as place:
        copy_model(place, check, MODEL)
        command = ("hb_mapper", "checker", "--model-type", "onnx", "--model", MODEL, "--march", plan.target.name)
        run = run_hb_mapper(place, (*command, *shapes), toolchain, log=log)
    log.unlink(missing_ok=True)  # it holds nothing that the answer does not
    record = run.record
    cpu = [{"name": node.name, "type": node.type} for node in record.nodes if node.processor == "CPU"]
    seconds = round(run.finished.seconds, 3)
    return {"nodes": len(record.nodes), "cpu": cpu, "versions": dict(record.versions), "seconds": seconds}


def _memory(plan: Plan, check: Preflight, toolchain: Toolchain) -> Path | None:
    """The file of the answer: by content, shapes, march and tool. None for tools elsewhere, whose version is not known.

    hb_mapper needs a second to tell its version; the path, size and time of its program stand for it.
    """
    if not isinstance(toolchain, Local):
        return None
    try:
        tool = os.stat(named := program(toolchain))
    except (OSError, ToolchainMissing):
        return None  # the build says so
    digest = (
        hashlib.sha256(check.model.proto.SerializeToString(deterministic=True)).hexdigest()
        if check.converted
        else check.model.sha256
    )
    parts = [digest, plan.target.name, dict(plan.settings.get("shapes", {})), named, tool.st_size, tool.st_mtime_ns]
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    home = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG base directory specification: a relative path there does not count.
    base = Path(home) if os.path.isabs(home) else Path.home() / ".cache"
    return base / "ptqbridge" / "hb_mapper-checker" / f"{key}.json"


def _remembered(memory: Path | None) -> dict[str, Any]:
    """The answer, {} when there is none that can be used."""
    if memory is None:
        return {}
    try:
        answer = json.loads(memory.read_text(encoding="utf-8"))
        whole = isinstance(answer["nodes"], int) and all(node["name"] and node["type"] for node in answer["cpu"])
    except (OSError, ValueError, TypeError, KeyError):
        return {}
    return {**answer, "remembered": True} if whole else {}


def _write(memory: Path, answer: Mapping[str, Any]) -> None:
    with suppress(OSError):
        memory.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(memory, json.dumps(answer, ensure_ascii=False, indent=1) + "\n")
