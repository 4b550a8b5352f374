"""``ptqbridge calibrate``: ranges from samples, in any form; and the commands on files of ranges."""

from __future__ import annotations

import difflib
import json
import os
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from ptqbridge.cli.helptext import command_help
from ptqbridge.cli.restrict import SAMPLES, unused
from ptqbridge.cli.say import Speaker
from ptqbridge.errors import OptionError
from ptqbridge.invocation import Invocation, single_target, understand
from ptqbridge.options.rows_bridge import WITHOUT_SAMPLES
from ptqbridge.wording import counted

if TYPE_CHECKING:
    from ptqbridge.quantize.formats import Form

METHOD = ("calibAlgo", "calibPercentile", "calibCutoff")
"""Options that say how ranges are found."""
USED = frozenset(SAMPLES) | {*("out", *METHOD, "memCap", "calibCheckpoint", "scheme", "trtVersion", "trtCalibrator")}
FILE_COMMANDS = ("convert", "show", "diff", "verify")


def main(argv: list[str]) -> int:
    """Calibrate, or hand over to one of the commands on files."""
    if argv and argv[0] in FILE_COMMANDS:
        from ptqbridge.cli.ranges import run

        return run(argv)
    if argv and not argv[0].startswith("-"):
        near = difflib.get_close_matches(argv[0], FILE_COMMANDS, n=1)
        raise OptionError(
            f"calibrate: expected options, or one of {', '.join(FILE_COMMANDS)}; found {argv[0]!r}",
            hint=f"did you mean {near[0]}?" if near else "",
        )
    invocation = understand(argv, command="calibrate", default_target="cpu")
    if invocation is None:
        print(command_help("calibrate", USED), end="")
        return 0
    options = invocation.options
    left = unused(options, USED, "calibrate")
    speaker = Speaker(quiet=options.value("json"))
    for warning in options.warnings:
        speaker.warn(warning)
    if left:
        speaker.line(f"not used here, from the job file: {', '.join(left)}")
    started = time.perf_counter()
    out = options.value("out") or _default_out(invocation)
    record = _ranges(invocation, out, speaker) if _is_file(out) else _data(invocation, out, speaker)
    seconds = time.perf_counter() - started
    speaker.line(f"wrote {out} in {seconds:.1f} s")
    if options.value("json"):
        record = {"ok": True, "command": "calibrate", "out": out, **record, "seconds": seconds}
        print(json.dumps(record, ensure_ascii=False, indent=1))
    return 0


def _default_out(invocation: Invocation) -> str:
    stem = os.path.splitext(os.path.basename(invocation.build.model.path))[0]
    return f"{stem or 'model'}.ranges.json"


def _is_file(out: str) -> bool:
    """Whether --out is a file of ranges; anything without a known ending is a folder of Horizon data."""
    from ptqbridge.quantize.formats import form_of
    from ptqbridge.quantize.formats.writing import writable_forms

    if os.path.isdir(out) or out.endswith(("/", os.sep)):
        return False
    if form_of(out):
        return True
    if os.path.splitext(out)[1]:
        raise OptionError(
            f"--out={out}: expected a folder for Horizon's data, or one of the endings {writable_forms()}"
        )
    return False


def _scheme(invocation: Invocation) -> str:
    """--scheme, else that of --target, else tensorrt: it takes all tensors, so its ranges serve the others too."""
    asked = str(invocation.options.value("scheme"))
    if asked or "target" not in invocation.options:
        return asked or "tensorrt"
    return single_target(invocation).target.backend


def _default_algorithm(invocation: Invocation, *, cache: bool) -> str:
    """What a build for the target or the cache's reader does; percentile, the most forgiving, for neither."""
    backend = single_target(invocation).target.backend if "target" in invocation.options else ""
    if backend == "horizon":
        return "max"
    if cache or backend == "tensorrt":
        return "entropy2"
    return "default" if backend == "onnxruntime" else "percentile"


def _ranges(invocation: Invocation, out: str, speaker: Speaker) -> dict[str, Any]:
    from ptqbridge.files import write_atomic
    from ptqbridge.quantize.alone import find_ranges
    from ptqbridge.quantize.formats import Form, form_of, render
    from ptqbridge.quantize.formats.trt_cache import version_number
    from ptqbridge.quantize.methods import SEARCHES
    from ptqbridge.quantize.search import verdict
    from ptqbridge.report.calibration import converted

    options, form = invocation.options, form_of(out)
    assert form is not None
    single_target(invocation)
    version_number(options.value("trtVersion"))  # wrong ones are refused before the work, not after
    _must_be_writable(out)
    scheme = _scheme(invocation)
    default = _default_algorithm(invocation, cache=form is Form.TRT_CACHE)
    idle = _idle(invocation, options.value("calibAlgo") or default, form)
    with speaker.progress() as progress:
        found = find_ranges(
            invocation.build,
            scheme,
            default_algorithm=default,
            regression_cutoff=options.value("calibCutoff"),
            say=speaker.line,
            progress=progress,
        )
    found = replace(found, notes=(*idle, *found.notes))
    written = render(found.ranges, form, version=options.value("trtVersion"), calibrator=options.value("trtCalibrator"))
    write_atomic(out, written.text)
    for note in found.notes:
        speaker.line(f"note: {note}")
    for line in converted(written.losses, written.notes):
        speaker.line(line)
    if scheme == "onnxruntime" and form is not Form.RANGES:
        speaker.line(
            "note: these are the tensors that our own cpu target quantizes; others want more (leave --scheme out)"
        )
    left_out = found.ranges.details.get("left_out")
    if isinstance(left_out, dict):
        speaker.line(f"no range: {', '.join(f'{name} ({why})' for name, why in left_out.items())}")
    ranges = found.ranges
    made, over = counted(len(ranges.tensors), "range"), counted(ranges.samples, "sample")
    speaker.line(f"{made} by {ranges.method} over {over}, as {form}")
    if ranges.method in SEARCHES:
        speaker.line(verdict(ranges.details))
    return {
        "form": str(form),
        "scheme": scheme,
        "method": found.ranges.method,
        "samples": found.ranges.samples,
        "tensors": len(found.ranges.tensors),
        "fingerprint": {"data": found.ranges.data_fingerprint, "model": found.ranges.model_fingerprint},
        "details": dict(found.ranges.details),
        "notes": [*found.notes, *written.notes],
        "lost": [loss.to_dict() for loss in written.losses],
    }


def _idle(invocation: Invocation, algorithm: str, form: Form) -> list[str]:
    """A note on each option given that says nothing to this method or form. Raises OptionError for no method at all."""
    from ptqbridge.quantize.formats import Form

    if algorithm in WITHOUT_SAMPLES:
        raise OptionError(f"--calibAlgo={algorithm}: expected a method that finds ranges; {algorithm} is for builds")
    serves = {
        "calibPercentile": (algorithm in ("percentile", "legacy"), f"--calibAlgo={algorithm}"),
        "calibCutoff": (algorithm == "legacy", f"--calibAlgo={algorithm}"),
        "trtVersion": (form is Form.TRT_CACHE, f"{form}"),
        "trtCalibrator": (form is Form.TRT_CACHE, f"{form}"),
    }
    return [
        f"--{name} says nothing to {what}"
        for name, (used, what) in serves.items()
        if name in invocation.options and not used
    ]


def _must_be_writable(out: str) -> None:
    """A folder that is not there is found out before the calibration, not after it."""
    from ptqbridge.errors import InputError

    folder = os.path.dirname(out) or "."
    if not os.path.isdir(folder):
        raise InputError(f"--out: cannot write {out}: its folder does not exist")


def _data(invocation: Invocation, out: str, speaker: Speaker) -> dict[str, Any]:
    from ptqbridge.quantize.alone import write_horizon_data

    options = invocation.options
    target = single_target(invocation).target
    if target.backend != "horizon" or "target" not in options:
        raise OptionError(
            f"--out={out}: a folder means calibration data for a Horizon compiler; say which with --target",
            hint="for instance --target=j5 or --target=j6m; ranges go to a file such as model.ranges.json",
        )
    for_ranges = (*METHOD, "scheme", "memCap", "calibCheckpoint", "trtVersion", "trtCalibrator")
    idle = [name for name in for_ranges if name in options]
    if idle:
        words = ", ".join(f"--{name}" for name in idle)
        raise OptionError(
            f"{words}: no ranges are found when data are written; Horizon's compilers calibrate themselves",
            hint="give the method to build, or name a file of ranges with --out",
        )
    # Each file holds one inference of the shape the compiler builds, and a dynamic batch becomes 1 there.
    build = replace(invocation.build, calibration=replace(invocation.build.calibration, batch=1))
    with speaker.progress("writing samples", lines=False) as progress:
        journey6 = target.name.startswith("nash")
        written = write_horizon_data(build, out, journey6=journey6, say=speaker.line, progress=progress)
    for note in written.notes:
        speaker.line(f"note: {note}")
    speaker.line("for the compiler's YAML:")
    for key, value in written.yaml.items():
        speaker.line(f"  {key}: {value}")
    return {
        "form": "Horizon data",
        "target": target.name,
        "samples": written.samples,
        "folders": written.folders,
        "yaml": written.yaml,
        "fingerprint": {"data": written.fingerprint},
        "notes": list(written.notes),
    }
