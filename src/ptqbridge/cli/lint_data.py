"""``ptqbridge lint-data``: what is wrong with calibration data, before it ruins a build."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

from ptqbridge.cli.helptext import command_help
from ptqbridge.cli.restrict import SAMPLES, unused
from ptqbridge.cli.say import Speaker
from ptqbridge.errors import LimitNotMet, OptionError
from ptqbridge.invocation import Invocation, single_target, understand
from ptqbridge.wording import counted

if TYPE_CHECKING:
    from ptqbridge.data.facts import Finding
    from ptqbridge.spec.tensor import TensorSpec

USED = (frozenset(SAMPLES) | {"horizonYaml"}) - {"skipBroken"}
"""Broken samples are findings here, and all of them are wanted."""
_SHOWN = 20
"""Samples named for one and the same kind of finding; with --json all are."""


def main(argv: list[str]) -> int:
    """Print the findings; exit status 6 when one of them is an error."""
    invocation = understand(argv, command="lint-data", default_target="cpu")
    if invocation is None:
        print(command_help("lint-data", USED), end="")
        return 0
    options = invocation.options
    left = unused(options, USED, "lint-data")
    build = invocation.build
    horizon = single_target(invocation).target.backend == "horizon"
    if options.value("horizonYaml") and not horizon:
        raise OptionError("--horizonYaml: lint-data looks into it for a Horizon --target only")
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
    samples = asked_samples(build.calibration, model.inputs, keep_going=True)
    for note in samples.notes:
        speaker.line(f"note: {note}")
    sure, perhaps = _nv12(invocation, model.inputs) if horizon else (frozenset(), frozenset())
    with speaker.progress("looking at samples", lines=False) as progress:
        samples.tell(progress)
        findings = lint_data(samples, model.inputs, proto=model.proto, nv12=sure, perhaps_nv12=perhaps)
    for line in _lines(findings):
        speaker.line(line)
    counts = {level: sum(f.level == level for f in findings) for level in ("error", "warning", "unsure")}
    status = LimitNotMet.exit_status if counts["error"] else 0
    speaker.line(f"{samples.used} of {counted(samples.found, 'sample')} could be read: {_tally(counts)}")
    if options.value("json"):
        record = {
            "samples": samples.found,
            "readable": samples.used,
            "counts": counts,
            "findings": [asdict(finding) for finding in findings],
        }
        head = {"ok": not status, "command": "lint-data", "exit_status": status}
        print(json.dumps({**head, **record, "notes": list(samples.notes)}, ensure_ascii=False, indent=1))
    return status


def _tally(counts: dict[str, int]) -> str:
    words = [
        f"{count} unsure" if level == "unsure" else counted(count, level) for level, count in counts.items() if count
    ]
    return ", ".join(words) or "nothing found"


def _lines(findings: Sequence[Finding]) -> list[str]:
    """A line each, but of one kind for one input no more than some, and then how many there are."""
    lines = []
    kinds = [(finding.level, finding.check, finding.input) for finding in findings]
    totals, seen = Counter(kinds), Counter[tuple[str, str, str]]()
    for kind, finding in zip(kinds, findings, strict=True):
        seen[kind] += 1
        if seen[kind] <= _SHOWN or totals[kind] == _SHOWN + 1:
            lines.append(finding.text())
        elif seen[kind] == _SHOWN + 1:
            lines.append(f"{kind[0]} [{kind[1]}] and {totals[kind] - _SHOWN} more samples; --json names them all")
    return lines


def _nv12(invocation: Invocation, inputs: Sequence[TensorSpec]) -> tuple[frozenset[str], frozenset[str]]:
    """The inputs that the overlay feeds as nv12, and the pictures of which no overlay says how they are fed."""
    from ptqbridge.backends.horizon.overlay import load_overlay
    from ptqbridge.backends.horizon.schema import entries
    from ptqbridge.data.facts import is_image

    path = invocation.options.value("horizonYaml")
    keys = load_overlay(path).get("input_parameters", {}) if path else {}
    names = entries(keys.get("input_name")) or [spec.name for spec in inputs]
    kinds = dict(zip(names, entries(keys.get("input_type_rt")), strict=False))
    sure = frozenset(name for name, kind in kinds.items() if name and kind == "nv12")
    return sure, frozenset(spec.name for spec in inputs if is_image(spec) and not kinds.get(spec.name))
