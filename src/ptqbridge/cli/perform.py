"""Build and run with trtexec's log: status lines, option echo, device section, stages, performance summary."""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import ptqbridge
from ptqbridge.backends import Backend, load
from ptqbridge.cli.helptext import command_help
from ptqbridge.errors import PtqbridgeError
from ptqbridge.execute import (
    check_files,
    compared,
    make_plan,
    out_folder,
    refuse_faults,
    refuse_inaccurate,
    result_record,
    write_into,
    write_plan,
    write_script,
)
from ptqbridge.invocation import Invocation, single_target, understand
from ptqbridge.measure.echo import device_lines, echo_lines
from ptqbridge.measure.trtlog import TrtLog
from ptqbridge.options.effective import effective
from ptqbridge.plan import Plan
from ptqbridge.result import BuildResult
from ptqbridge.rulebook import Verdict


def perform(command: str, argv: list[str], *, default_target: str) -> int:
    """Carry out ``run`` or ``trtexec``; returns the exit status."""
    invocation = understand(argv, command=command, default_target=default_target)
    if invocation is None:
        print(command_help(command), end="")
        return 0
    request = single_target(invocation)
    as_json = invocation.options.value("json")
    log = _log(verbose=invocation.options.value("verbose"), to_stderr=as_json)
    words = ["ptqbridge", command, *argv]
    log.status("RUNNING", words)
    try:
        plan = make_plan(request)
        record = _perform(invocation, plan, load(request.target), log)
    except PtqbridgeError as error:
        if not as_json:
            log.error(error.message, *([f"hint: {error.hint}"] if error.hint else []))
        log.status("FAILED", words)
        if as_json:
            raise
        return error.exit_status
    except BaseException:
        log.status("FAILED", words)
        raise
    log.status("PASSED", words)
    if as_json:
        print(json.dumps({"ok": True, "command": command, **record}, ensure_ascii=False, indent=1))
    return 0


def _log(*, verbose: bool, to_stderr: bool) -> TrtLog:
    version = "ptqbridge v" + "".join(f"{int(part):02d}" for part in ptqbridge.__version__.split("."))
    return TrtLog("ptqbridge.trtexec", version, verbose=verbose, out=sys.stderr if to_stderr else None)


def _perform(invocation: Invocation, plan: Plan, backend: Backend, log: TrtLog) -> dict[str, object]:
    from ptqbridge.measure.present import export, present

    options = invocation.options
    log.warning(*options.warnings)
    log.info(*echo_lines(effective(options)))
    if not options.value("dryRun"):
        check_files(plan)
        log.info(*device_lines(backend.device_info(plan)))  # a plan needs no device
    _say_mapping(plan, log)
    folder = out_folder(invocation, invocation.requests[0], invocation.requests)
    if folder:
        write_plan(invocation, plan, folder)
    for path in write_script(invocation, plan, folder):
        log.info(f"Script written: {path}")
    if options.value("dryRun"):
        log.info("Dry run: nothing was built or run.")
        refuse_faults(plan)
        return result_record(plan, dry_run=True)
    with _artifact(plan, backend, log.info) as (path, built):
        if built is not None:
            _say_built(built, log)
        outcome = compared(plan, backend.run(plan, path, say=log.info))
        if built is not None:  # "" where it is not kept
            outcome = replace(outcome, artifact=built.artifact)
        present(outcome, plan.run.reports, log)
        for unwritten in export(outcome, plan.run.reports):
            log.warning(f"{unwritten} was not written: this run has no content for it")
    record = result_record(plan, build=built.to_dict() if built else None, run=outcome.to_dict())
    if folder:
        write_into(folder, "result.json", json.dumps(record, ensure_ascii=False, indent=1) + "\n")
    refuse_inaccurate(outcome, record)
    return record


def _say_mapping(plan: Plan, log: TrtLog) -> None:
    for row in plan.rows:
        if row.verdict in (Verdict.APPROXIMATE, Verdict.IGNORED):
            becomes = f" -> {row.becomes}" if row.becomes else ""
            log.info(f"{plan.target.name}: {row.option} is {row.verdict}{becomes} ({row.why})")
    for fill in plan.fills:
        log.info(f"{plan.target.name}: {fill.what} = {fill.value} by default ({fill.why})")
    if plan.performance_only:
        log.warning(f"performance only: {plan.performance_only}")


def _say_built(built: BuildResult, log: TrtLog) -> None:
    log.info(*(f"note: {note}" for note in built.notes))
    log.info(*built.facts.get("kernels", ()))
    log.info(*(f"layer {row.layer}: asked {row.asked}, got {row.got}" for row in built.asked_got))
    log.info(f"Engine built in {built.seconds:.6g} sec.")


@contextmanager
def _artifact(plan: Plan, backend: Backend, say: Callable[[str], None]) -> Iterator[tuple[str, BuildResult | None]]:
    """The artifact to run: the one to load, or one built now, in a temporary folder when it is not to be kept."""
    if plan.run.artifact:
        yield plan.run.artifact, None
        return
    if plan.build.artifact:
        built = backend.build(plan, say=say, progress=None)
        yield built.artifact, built
        return
    with tempfile.TemporaryDirectory(prefix="ptqbridge-") as folder:
        path = f"{folder}/artifact{backend.suffix}"
        here = replace(plan, build=replace(plan.build, artifact=path))
        built = backend.build(here, say=say, progress=None)
        try:
            yield path, replace(built, artifact="")
        except PtqbridgeError as error:  # nobody has heard of that path, and it is gone by then
            error.message, error.hint = (
                text.replace(path, plan.build.model.path) for text in (error.message, error.hint)
            )
            raise
