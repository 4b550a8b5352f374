"""``ptqbridge migrate``: a hb_mapper YAML (Journey 5) becomes a hb_compile YAML (Journey 6)."""

from __future__ import annotations

import json
import os
from typing import Any

import click

from ptqbridge.errors import InputError, OptionError
from ptqbridge.wording import counted


@click.command(
    "migrate",
    help="Rewrite a YAML of hb_mapper (Journey 5, X5, X3) for hb_compile (Journey 6). Comments stay; every decision "
    "and everything that needs a human is listed; the result is checked. Without --out the YAML goes to standard "
    "output and the list to standard error.",
    context_settings={"help_option_names": ["--help", "-h"]},
)
@click.argument("path", metavar="FILE.yaml")
@click.option("--target", default="", help="The chip to move to: nash-e, nash-m, nash-p, ... or j6e, j6m, j6p, s100.")
@click.option("--out", default="", help="Where to write the new YAML.")
@click.option("--calibOut", "calib_out", default="", help="Convert the samples too, into this new folder.")
@click.option("--toolchainVersion", "generation", type=click.Choice(["3.5", "3.0"]), default="3.5", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--verbose", is_flag=True, hidden=True)
def command(path: str, target: str, out: str, calib_out: str, generation: str, as_json: bool, verbose: bool) -> int:
    """Print or write the new YAML, and the decisions."""
    from ptqbridge.backends.horizon import comments, migrate, validate
    from ptqbridge.backends.horizon.marches import MARCHES
    from ptqbridge.cli.validate import horizon_target
    from ptqbridge.files import write_atomic

    march = MARCHES[horizon_target(target)] if target else None
    if march is None or not march.journey6:
        raise OptionError(f"--target: expected the Journey 6 chip to move to, found {target or 'none'}")
    old, doubled = validate.read_yaml(path)
    folder = os.path.dirname(os.path.abspath(path))
    _accept(path, validate.validate(old, folder, doubled=doubled))
    with open(path, encoding="utf-8") as file:
        config = comments.load(file.read(), path)
    decisions = migrate.migrate(config, march)
    place = os.path.dirname(os.path.abspath(out)) if out else folder
    _move_paths(config, folder, place)
    if calib_out:
        decisions.append(_convert(old, config, folder, place, calib_out))
    else:
        decisions += migrate.samples_to_do(config)
    text = comments.dump(config)
    report = validate.validate(_plain(text), place, target=march.name, generation=generation)
    if out:
        write_atomic(out, text)
    listed = [decision.text() for decision in decisions]
    if as_json:
        record = {"ok": report.ok, "command": "migrate", "file": path, "written": out or None}
        record["exit_status"] = 0 if report.ok else 3
        record |= {"yaml": text, "decisions": [decision.to_dict() for decision in decisions]}
        click.echo(json.dumps(record | {"check": report.to_dict()}, ensure_ascii=False, indent=1))
        return 0 if report.ok else 3
    if not out:
        click.echo(text, nl=False)
    for line in [*listed, *(finding.text() for finding in report.findings)]:
        click.echo(line, err=not out)
    click.echo(f"{out or 'result'}: {'valid' if report.ok else 'NOT valid'} for {march.tool}", err=not out)
    if not report.ok:
        raise InputError(f"{path}: the result needs your hand: {report.errors[0].text()}")
    return 0


def _accept(path: str, report: Any) -> None:
    if report.march.journey6:
        raise InputError(f"{path} is for {report.march.name}: it is a Journey 6 configuration already")
    if not report.ok:
        hint = f"ptqbridge validate {path} shows everything"
        raise InputError(f"{path}: hb_mapper itself would refuse it: {report.errors[0].text()}", hint=hint)


def _convert(old: Any, config: Any, folder: str, place: str, calib_out: str) -> Any:
    from ptqbridge.backends.horizon.migrate import Decision
    from ptqbridge.backends.horizon.resample import convert_samples

    folders, count = convert_samples(old, folder, calib_out)
    config["calibration_parameters"]["cal_data_dir"] = ";".join(os.path.relpath(name, place) for name in folders)
    what, why = f"{counted(count, 'sample')} per input converted to {calib_out}", "normalised, one .npy each"
    return Decision("calibration_parameters.cal_data_dir", what, why)


def _move_paths(config: Any, folder: str, place: str) -> None:
    """Keep relative paths right when the new YAML lies elsewhere."""
    from ptqbridge.backends.horizon.overlay import PATH_KEYS

    if os.path.realpath(folder) == os.path.realpath(place):
        return
    for content in config.values():
        for key in PATH_KEYS if isinstance(content, dict) else ():
            value = content.get(key)
            if isinstance(value, str) and value and not os.path.isabs(value):
                parts = (part.strip() for part in value.split(";"))
                content[key] = ";".join(os.path.relpath(os.path.join(folder, part), place) for part in parts if part)


def _plain(text: str) -> Any:
    import yaml

    return yaml.safe_load(text)


def main(argv: list[str]) -> int:
    """Run the command."""
    return int(command.main(argv, prog_name="ptqbridge migrate", standalone_mode=False) or 0)
