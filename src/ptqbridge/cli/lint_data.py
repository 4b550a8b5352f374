"""``ptqbridge lint-data``: what is wrong with calibration data, before it ruins a build."""

from __future__ import annotations

import json
from dataclasses import asdict

from ptqbridge.cli.helptext import command_help
from ptqbridge.cli.restrict import SAMPLES, unused
from ptqbridge.cli.say import Speaker
from ptqbridge.errors import LimitNotMet, OptionError
from ptqbridge.invocation import single_target, understand

USED = frozenset(SAMPLES) - {"skipBroken"}
"""Broken samples are findings here, and all of them are wanted."""
_ALL = 1 << 40


def main(argv: list[str]) -> int:
    """Print the findings; exit status 6 when one of them is an error."""
    if "--help" in argv or "-h" in argv or not argv:
        print(command_help("lint-data", USED), end="")
        return 0
    invocation = understand(argv, command="lint-data", default_target="cpu")
    assert invocation is not None  # help was handled above
    options = invocation.options
    left = unused(options, USED, "lint-data")
    single_target(invocation)
    build = invocation.build
    if not build.model.path or not build.calibration.data:
        raise OptionError("lint-data: expected --onnx=MODEL and --calibData=DATA")
    speaker = Speaker(quiet=options.value("json"))
    for warning in options.warnings:
        speaker.warn(warning)
    if left:
        speaker.line(f"not used here, from the job file: {', '.join(left)}")

    from ptqbridge.data.asked import asked_samples
    from ptqbridge.data.lint import lint_data
    from ptqbridge.model.load import load_model

    model = load_model(build.model.path)
    samples = asked_samples(build.calibration, model.inputs, skip_broken=_ALL)
    for note in samples.notes:
        speaker.line(f"note: {note}")
    findings = lint_data(samples, model.inputs, proto=model.proto)
    for finding in findings:
        speaker.line(finding.text())
    counts = {level: sum(f.level == level for f in findings) for level in ("error", "warning", "unsure")}
    status = LimitNotMet.exit_status if counts["error"] else 0
    looked_at = len(samples) - sum(finding.check == "broken" for finding in findings)
    speaker.line(f"{looked_at} of {len(samples)} samples could be read: {_tally(counts)}")
    if options.value("json"):
        record = {
            "samples": len(samples),
            "readable": looked_at,
            "counts": counts,
            "findings": [asdict(finding) for finding in findings],
        }
        head = {"ok": not status, "command": "lint-data", "exit_status": status}
        print(json.dumps({**head, **record, "notes": list(samples.notes)}, ensure_ascii=False, indent=1))
    return status


def _tally(counts: dict[str, int]) -> str:
    words = [f"{count} {level}{'s' * (count > 1 and level != 'unsure')}" for level, count in counts.items() if count]
    return ", ".join(words) or "nothing found"
