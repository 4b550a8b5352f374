"""``ptqbridge validate``: all faults of a vendor YAML at once. A wrong YAML is wrong input: exit status 3."""

from __future__ import annotations

import json

import click

from ptqbridge.backends import resolve
from ptqbridge.errors import InputError, OptionError
from ptqbridge.wording import counted


@click.command(
    "validate",
    help="Check a YAML of hb_mapper (Journey 5) or hb_compile (Journey 6) completely: every fault at once, with key, "
    "value and what is allowed. Exit status 3 when the tool would refuse the file.",
    context_settings={"help_option_names": ["--help", "-h"]},
)
@click.argument("path", metavar="FILE.yaml")
@click.option("--target", default="", help="The target it must be for (default: the march it names).")
@click.option(
    "--toolchainVersion",
    "generation",
    type=click.Choice(["3.5", "3.0"]),
    default="3.5",
    show_default=True,
    help="Generation of hb_compile.",
)
@click.option("--bytecode", is_flag=True, help="It is for hb_compile -m FILE.bc, which needs no model or input keys.")
@click.option("--strict", is_flag=True, help="Missing files are errors also where the model is not there.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--verbose", is_flag=True, hidden=True)
def command(path: str, target: str, generation: str, bytecode: bool, strict: bool, as_json: bool, verbose: bool) -> int:
    """Print the findings."""
    from ptqbridge.backends.horizon.validate import validate_file

    name = horizon_target(target) if target else ""
    report = validate_file(path, target=name, generation=generation, strict=strict, bytecode=bytecode)
    version = f"{report.march.tool} {report.generation}"
    if as_json:
        record = {**report.to_dict(), "command": "validate", "file": path, "exit_status": 0 if report.ok else 3}
        click.echo(json.dumps(record, ensure_ascii=False, indent=1))
        return 0 if report.ok else 3
    for finding in report.findings:
        click.echo(finding.text())
    remarks = len(report.findings) - len(report.errors)
    if report.ok:
        click.echo(
            f"{path}: valid for {version}, {report.march.name}" + (f"; {counted(remarks, 'remark')}" if remarks else "")
        )
        return 0
    many = counted(len(report.errors), "error")
    raise InputError(f"{path}: {many} for {version}, {report.march.name}")


def horizon_target(name: str) -> str:
    """The march of a target or chip name. Raises OptionError for another kind of target."""
    found = resolve(name)
    if found.backend != "horizon":
        raise OptionError(f"--target: expected a Horizon target such as nash-m, found {name!r}")
    return found.name


def main(argv: list[str]) -> int:
    """Run the command."""
    return int(command.main(argv, prog_name="ptqbridge validate", standalone_mode=False) or 0)
