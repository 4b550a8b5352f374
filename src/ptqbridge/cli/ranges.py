"""``ptqbridge calibrate convert | show | diff | verify``: the commands on files of ranges."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from ptqbridge.errors import LimitNotMet, OptionError
from ptqbridge.wording import counted

_SETTINGS = {"help_option_names": ["--help", "-h"]}
_SCHEMES = ("tensorrt", "horizon", "onnxruntime")


@click.group("calibrate", context_settings=_SETTINGS, help="Commands on files of ranges.")
def group() -> None:
    """Only its commands do something."""


def run(argv: list[str]) -> int:
    """Run one of the commands; returns its exit status."""
    return int(group.main(argv, prog_name="ptqbridge calibrate", standalone_mode=False) or 0)


_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
_verbose = click.option("--verbose", is_flag=True, expose_value=False, help="Show where an error happened.")


@group.command(context_settings=_SETTINGS)
@click.argument("source", metavar="A")
@click.argument("out", metavar="B")
@click.option("--onnx", metavar="MODEL", help="Give the tensors this model's names and leave out those it lacks.")
@click.option("--scheme", type=click.Choice(_SCHEMES), default="tensorrt", help="For --onnx: whose tensors count.")
@click.option("--trtVersion", "version", metavar="V", default="", help="TensorRT version in a cache's header.")
@click.option(
    "--trtCalibrator",
    "calibrator",
    type=click.Choice(["entropy2", "entropy", "minmax", "legacy"]),
    help="Calibrator in a cache's header.",
)
@click.option("--target", metavar="T", default="", help="For folders of data: the Horizon target that B is for.")
@_json
@_verbose
def convert(
    source: str,
    out: str,
    onnx: str | None,
    scheme: str,
    version: str,
    calibrator: str | None,
    target: str,
    as_json: bool,
) -> int:
    """Write the ranges of file A as B; B's ending says the form.

    .json is ranges.json, .cache or .calib a TensorRT cache, .ort.json ONNX Runtime's calibration cache (1.31 on),
    .table.json its table of [min, max], .flatbuffers and .ort.cache the tables of its TensorRT provider. What B cannot
    hold is said, line by line. A folder of calibration data that calibrate wrote for one generation of Horizon's
    compilers becomes one for --target.
    """
    if os.path.isdir(source) or target:
        return _convert_data(source, out, target, as_json=as_json)
    from ptqbridge.quantize.formats import Loss, read_ranges, write_ranges
    from ptqbridge.quantize.formats.writing import require_form
    from ptqbridge.report.calibration import converted, origin

    if not os.path.splitext(out)[1]:
        raise OptionError(
            f"{out}: expected a file; ranges hold no samples, so they cannot become a folder of calibration data",
            hint="calibrate --onnx=MODEL --calibData=SAMPLES --target=j5 --out=FOLDER writes one",
        )
    form = require_form(out)
    loaded = read_ranges(source)
    ranges, losses, notes = loaded.ranges, list(loaded.losses), list(loaded.notes)
    if onnx:
        from ptqbridge.model.load import load_model
        from ptqbridge.quantize.verify import fitted, verify

        found = verify(ranges, load_model(onnx).proto, scheme)
        ranges = fitted(ranges, found)
        if found.moved:
            notes.append(f"{len(found.moved)} names differ and were matched to the model's by position")
        if found.unknown:
            text = f"names: {counted(len(found.unknown), 'tensor')} left out, {onnx} has none of these names (first "
            losses.append(Loss("names", f"{text}{found.unknown[0]!r})", len(found.unknown)))
        if found.missing:
            notes.append(f"no range for {counted(len(found.missing), 'tensor')} of {onnx} (first {found.missing[0]!r})")
    written = write_ranges(ranges, out, form, version=version, calibrator=calibrator or "")
    losses += written.losses
    notes += written.notes
    if as_json:
        record = {"from": str(loaded.form), "to": str(form), "out": out, "tensors": len(ranges.tensors)}
        _print("convert", {**record, "lost": [loss.to_dict() for loss in losses], "notes": notes})
    else:
        lines = [
            origin(loaded),
            *converted(losses, notes),
            f"wrote {out}: {form}, {counted(len(ranges.tensors), 'tensor')}",
        ]
        click.echo("\n".join(lines))
    return 0


def _convert_data(source: str, out: str, target: str, *, as_json: bool) -> int:
    """A data folder of one generation of compilers to another's."""
    from ptqbridge.backends import resolve
    from ptqbridge.data.recorded import find_record
    from ptqbridge.data.samples import open_samples
    from ptqbridge.errors import InputError
    from ptqbridge.quantize.alone import write_folders

    record = find_record(source)
    if record is None:
        what = "a folder that calibrate did not write" if os.path.isdir(source) else "no folder"
        raise InputError(
            f"{source}: expected a file of ranges or a folder of Horizon data with its data.json, found {what}",
            hint="calibration data holds samples, not ranges: calibrate --onnx=MODEL --calibData=FOLDER finds them",
        )
    if os.path.splitext(out)[1] and not os.path.isdir(out):
        raise OptionError(
            f"{out}: expected a folder; samples become ranges only by running the model on them",
            hint=f"calibrate --onnx=MODEL --calibData={source} --out={out} does",
        )
    chosen = resolve(target or ("j5" if record.journey6 else "j6m"))
    if chosen.backend != "horizon":
        raise OptionError(f"--target={target}: expected one of Horizon's, since B is a folder of calibration data")
    samples = open_samples(record.root, record.inputs())
    journey6 = chosen.name.startswith("nash")
    written = write_folders(samples, record.inputs(), out, journey6=journey6)
    kinds = [f"Journey {6 if six else 5} data" for six in (record.journey6, journey6)]
    if as_json:
        head = {"from": kinds[0], "to": kinds[1], "out": out, "samples": written.samples, "lost": []}
        _print("convert", {**head, "folders": written.folders, "yaml": written.yaml, "notes": list(written.notes)})
        return 0
    lines = [f"{source}: {kinds[0]}, {counted(len(record.samples), 'sample')}", "lost: nothing"]
    lines += [f"note: {note}" for note in written.notes]
    lines += ["for the compiler's YAML:", *(f"  {key}: {value}" for key, value in written.yaml.items())]
    click.echo("\n".join([*lines, f"wrote {out}: {kinds[1]}, {counted(written.samples, 'sample')}"]))
    return 0


@group.command(context_settings=_SETTINGS)
@click.argument("path", metavar="FILE")
@_json
@_verbose
def show(path: str, as_json: bool) -> int:
    """Print what a file of ranges holds."""
    from ptqbridge.quantize.formats import read_ranges
    from ptqbridge.report import calibration

    loaded = read_ranges(path)
    if as_json:
        _print("show", calibration.show_record(loaded))
    else:
        click.echo(calibration.show(loaded), nl=False)
    return 0


@group.command(context_settings=_SETTINGS)
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
@click.option("--limit", type=float, help="Exit status 6 when any amax differs by more than this factor (1 or more).")
@click.option("--top", type=click.IntRange(min=0), default=20, show_default=True, help="Rows shown; 0 for all.")
@_json
@_verbose
def diff(first: str, second: str, limit: float | None, top: int, as_json: bool) -> int:
    """Compare two files of ranges tensor by tensor, those furthest apart first."""
    from ptqbridge.quantize.formats import read_ranges
    from ptqbridge.quantize.formats.drift import compare
    from ptqbridge.report import calibration

    if limit is not None and not limit >= 1:
        raise OptionError(f"--limit: expected a factor of 1 or more, found {limit:g}")
    one, other = read_ranges(first), read_ranges(second)
    found = compare(one.ranges, other.ranges)
    if not found.drifts:
        raise LimitNotMet(f"{first} and {second} have no tensor in common, so there is nothing to compare")
    status = LimitNotMet.exit_status if limit is not None and found.factor > limit else 0
    if as_json:
        record = {"a": first, "b": second, "limit": limit, "exit_status": status, **calibration.drift_record(found)}
        _print("diff", record, ok=not status)
    else:
        click.echo(calibration.drift(found, one, other, limit=limit, top=top), nl=False)
    return status


@group.command(context_settings=_SETTINGS)
@click.argument("path", metavar="FILE")
@click.option("--onnx", metavar="MODEL", required=True, help="The float model that the ranges are for.")
@click.option("--scheme", type=click.Choice(_SCHEMES), help="Whose tensors count (default: the file's own).")
@click.option("--minCoverage", "least", type=click.FloatRange(0, 100), help="Exit status 6 below this percentage.")
@_json
@_verbose
def verify(path: str, onnx: str, scheme: str | None, least: float | None, as_json: bool) -> int:
    """Check how much of a model a file of ranges covers."""
    from ptqbridge.model.load import load_model
    from ptqbridge.quantize.formats import read_ranges
    from ptqbridge.quantize.verify import verify as check
    from ptqbridge.report import calibration

    loaded = read_ranges(path)
    model = load_model(onnx)
    own = loaded.ranges.scheme if loaded.ranges.scheme in _SCHEMES else "tensorrt"
    found = check(loaded.ranges, model.proto, scheme or own)
    notes = []
    if loaded.ranges.model_fingerprint not in ("", model.sha256):
        notes.append(f"the ranges were found on another model file than {onnx}")
    status = LimitNotMet.exit_status if least is not None and found.percent < least else 0
    if as_json:
        record = {"file": path, "onnx": onnx, "min_coverage": least, "exit_status": status}
        _print(
            "verify", {**record, **calibration.coverage_record(found), "notes": [*loaded.notes, *notes]}, ok=not status
        )
    else:
        click.echo(calibration.coverage(found, loaded, onnx, least=least, notes=notes), nl=False)
    return status


def _print(command: str, record: dict[str, Any], *, ok: bool = True) -> None:
    click.echo(json.dumps({"ok": ok, "command": f"calibrate {command}", **record}, ensure_ascii=False, indent=1))
