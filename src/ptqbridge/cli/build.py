"""``ptqbridge build``: make the artifact for one or several targets."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from typing import Any

from ptqbridge.backends import load
from ptqbridge.cli.helptext import command_help
from ptqbridge.cli.say import Speaker
from ptqbridge.errors import OptionError
from ptqbridge.execute import (
    check_files,
    make_plan,
    out_folder,
    refuse_faults,
    result_record,
    write_into,
    write_plan,
    write_script,
)
from ptqbridge.invocation import Invocation, understand
from ptqbridge.plan import Request
from ptqbridge.report import mapping


def main(argv: list[str]) -> int:
    """Build for every target in turn; the first failure ends the command."""
    invocation = understand(argv, command="build", default_target="cpu")
    if invocation is None:
        print(command_help("build"), end="")
        return 0
    options = invocation.options
    if "onnx" not in options and "loadEngine" in options:
        raise OptionError("--loadEngine: build makes an artifact; use run to run one")
    if len(invocation.requests) > 1 and options.value("saveEngine"):
        raise OptionError("--saveEngine names one file, but there are several targets", hint="use --out=FOLDER")
    speaker = Speaker(quiet=options.value("json"))
    for warning in options.warnings:
        speaker.warn(warning)
    records = {request.target.name: _one(invocation, request, speaker) for request in invocation.requests}
    if options.value("json"):
        print(json.dumps({"ok": True, "command": "build", "targets": records}, ensure_ascii=False, indent=1))
    return 0


def _one(invocation: Invocation, request: Request, speaker: Speaker) -> dict[str, Any]:
    folder = out_folder(invocation, request, invocation.requests)
    # With several targets the products, too, go below the target's own folder.
    plan = make_plan(replace(request, build=replace(request.build, out=folder)))
    if invocation.options.value("dryRun"):
        written = write_plan(invocation, plan, folder) if folder else write_script(invocation, plan, folder)
        bundle = getattr(load(request.target), "bundle", None)
        if folder and bundle and os.path.isfile(plan.build.model.path):
            written = sorted({*written, *bundle(plan, folder, say=speaker.line)})
        speaker.print(mapping.text([plan]))
        speaker.line(f"dry run: nothing was run; written: {', '.join(written) or 'nothing (give --out=FOLDER)'}")
        refuse_faults(plan)
        return result_record(plan, dry_run=True, written=written)
    check_files(plan)
    speaker.mapping(plan)
    backend = load(request.target)
    if folder:
        write_plan(invocation, plan, folder)
    for path in write_script(invocation, plan, folder):
        speaker.line(f"script: {path}")
    with speaker.progress() as progress:
        result = backend.build(plan, say=speaker.line, progress=progress)
    speaker.built(result)
    record = result_record(plan, build=result.to_dict())
    if folder:
        write_into(folder, "result.json", json.dumps(record, ensure_ascii=False, indent=1) + "\n")
    return record
