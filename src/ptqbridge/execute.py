"""Carrying out an invocation: the same plan that ``explain`` shows, then the backend's build and run."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ptqbridge.backends import load
from ptqbridge.errors import InputError, LimitNotMet, OptionError
from ptqbridge.files import write_atomic
from ptqbridge.invocation import Invocation
from ptqbridge.plan import Plan, Request
from ptqbridge.rulebook import Verdict

if TYPE_CHECKING:
    from ptqbridge.measure.outcome import Outcome


def make_plan(request: Request) -> Plan:
    """The plan of one request, refused options and ``--strict`` included. Raises OptionError naming every offender."""
    backend = load(request.target)
    prepare = getattr(backend, "prepare", None)
    if prepare:
        prepare(request)
    plan = backend.plan(request)
    refuse(plan)
    return plan


def refuse(plan: Plan) -> None:
    """Raise OptionError when an option is refused, or when ``--strict`` forbids what would be done."""
    name = plan.target.name
    if plan.refused:
        lines = "; ".join(f"{row.option}: {row.why}" for row in plan.refused)
        raise OptionError(
            f"target {name} refuses {lines}", hint="'ptqbridge explain' with the same options shows all verdicts"
        )
    if not plan.build.strict:
        return
    if plan.performance_only:
        raise OptionError(f"--strict: target {name}: {plan.performance_only}")
    idle = [row.option for row in plan.rows if row.verdict is Verdict.IGNORED]
    if idle:
        raise OptionError(f"--strict: target {name} ignores {', '.join(idle)}")


def check_files(plan: Plan) -> None:
    """The files that are read, and the folders of those that are written, are there before anything long begins.

    Raises InputError naming option and path. (trtexec calibrates on random numbers when the cache is missing.)
    """
    named = (
        ("--onnx", plan.build.model.path),
        ("--calib", plan.build.calibration.cache),
        ("--calibData", _plain_path(plan.build.calibration.data)),
        ("--loadEngine", plan.run.artifact),
        *(("--loadRefOutputs", path) for path in plan.run.expected.files.values()),
    )
    for option, path in named:
        if path and not os.path.exists(path):
            raise InputError(f"{option}: {path} does not exist")
    reports = plan.run.reports
    written = (
        ("--saveEngine", plan.build.artifact),
        ("--exportTimes", reports.export_times),
        ("--exportOutput", reports.export_output),
        ("--exportProfile", reports.export_profile),
        ("--exportLayerInfo", reports.export_layers),
    )
    for option, path in written:
        folder = os.path.dirname(path)
        if folder and not os.path.isdir(folder) and not _holds(folder, plan.build.out):
            why = "its folder is a file" if os.path.exists(folder) else "its folder does not exist"
            raise InputError(f"{option}: cannot write {path}: {why}")


def _holds(folder: str, out: str) -> bool:
    """Whether ``folder`` comes to be with --out, which is made where it is missing."""
    return bool(out) and os.path.join(os.path.abspath(out), "").startswith(os.path.join(os.path.abspath(folder), ""))


def refuse_faults(plan: Plan) -> None:
    """Raise InputError with what a dry run found that would stop the build, one fault per line."""
    if plan.faults:
        lines = plan.faults[0] if len(plan.faults) == 1 else "".join(f"\n  {fault}" for fault in plan.faults)
        raise InputError(f"{plan.target.name}: this build would fail: {lines}")


def _plain_path(data: str) -> str:
    """The file behind ``FILE:ARRAY`` and ``FILE.py:FUNCTION``."""
    return data if os.path.exists(data) else data.rpartition(":")[0] or data


def compared(plan: Plan, outcome: Outcome) -> Outcome:
    """``outcome`` with its outputs held against those of ``--loadRefOutputs``, whatever the target.

    Raises InputError for an expected output that does not fit the run's.
    """
    if not plan.run.expected.files or outcome.skipped:
        return outcome
    from ptqbridge.measure.accuracy import accuracy_losses

    return replace(outcome, accuracy=accuracy_losses(outcome.outputs, plan.run.expected))


def refuse_inaccurate(outcome: Outcome, record: Mapping[str, Any]) -> None:
    """Raise LimitNotMet with ``record`` when an output is further from the expected one than was accepted."""
    from ptqbridge.measure.accuracy import failures

    if outcome.accuracy and (far := failures(outcome.accuracy)):
        raise LimitNotMet(f"--accuracyThreshold: {far}", record=record)


def write_plan(invocation: Invocation, plan: Plan, folder: str) -> list[str]:
    """Write plan.json and the plan's files into ``folder`` (made if missing); returns the paths written."""
    from ptqbridge.report.record import plan_record

    record = json.dumps(plan_record(invocation.argv, invocation.options, plan), ensure_ascii=False, indent=1) + "\n"
    return [write_into(folder, name, text) for name, text in {"plan.json": record, **plan.files}.items()]


def write_script(invocation: Invocation, plan: Plan, folder: str) -> list[str]:
    """Write the program of ``--emitScript`` where it was asked for; without effect when ``folder`` takes all files."""
    name = invocation.options.value("emitScript")
    if folder or name not in plan.files:
        return []
    write_atomic(name, plan.files[name])
    return [name]


def write_into(folder: str, name: str, text: str) -> str:
    """Write one text file into ``folder``, making the folder. Raises InputError when that cannot be done."""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out: cannot make the folder {folder}: {error.strerror}") from None
    path = os.path.join(folder, name)
    write_atomic(path, text)
    return path


def out_folder(invocation: Invocation, request: Request, requests: Sequence[Request]) -> str:
    """Where a request's files go: --out itself, or a folder per target below it when there are several."""
    out: str = invocation.options.value("out")
    return os.path.join(out, request.target.name) if out and len(requests) > 1 else out


def result_record(plan: Plan, **parts: Any) -> dict[str, Any]:
    """One target's share of a command's JSON answer."""
    from ptqbridge.report import mapping
    from ptqbridge.report.record import versions

    return {**mapping.to_dict(plan), "versions": versions(), **parts}
