"""``ptqbridge import``: the command line that reproduces a YAML of hb_mapper or hb_compile."""

from __future__ import annotations

import json
import os
import shlex

import click

from ptqbridge.errors import InputError


@click.command(
    "import",
    help="Print the ptqbridge command line that reproduces a YAML of hb_mapper (Journey 5) or hb_compile (Journey 6). "
    "Keys that no option says are written to an overlay, which the command line names with --horizonYaml.",
    context_settings={"help_option_names": ["--help", "-h"]},
)
@click.argument("path", metavar="FILE.yaml")
@click.option("--out", default="", help="Where to write the overlay (default: FILE.overlay.yaml in this folder).")
@click.option("--toolchainVersion", "generation", type=click.Choice(["3.5", "3.0"]), default="3.5", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--verbose", is_flag=True, hidden=True)
def command(path: str, out: str, generation: str, as_json: bool, verbose: bool) -> None:
    """Print the command line; remarks go to standard error."""
    import yaml

    from ptqbridge.backends.horizon.equal import differences, normal
    from ptqbridge.backends.horizon.reverse import plan_of, planned_yaml, reverse
    from ptqbridge.backends.horizon.validate import read_yaml, validate
    from ptqbridge.files import write_atomic

    config, doubled = read_yaml(path)
    folder = os.path.dirname(os.path.abspath(path))
    report = validate(config, folder, generation=generation, doubled=doubled)
    if not report.ok:
        first, count = report.errors[0], len(report.errors)
        others = f" (and {count - 1} more)" if count > 1 else ""
        raise InputError(f"{path}: {first.text()}{others}", hint=f"ptqbridge validate {path} shows everything")
    made = reverse(config, folder, report.march, generation)
    words = list(made.words)
    if made.overlay:
        out = out or f"{os.path.splitext(os.path.basename(path))[0]}.overlay.yaml"
        write_atomic(out, yaml.safe_dump(dict(made.overlay), sort_keys=False, allow_unicode=True, width=2**20))
        words.append(f"--horizonYaml={out}")
    again = plan_of(words, report.march, generation)
    left = differences(
        normal(config, folder, report.march, generation),
        normal(planned_yaml(again), os.getcwd(), report.march, generation),
    )
    refused = [f"{row.option}: {row.why}" for row in again.refused]
    notes = [f"remark: {finding.text()}" for finding in report.findings]
    notes += [f"not reproduced: {key}" for key in left] + [f"refused: {text}" for text in refused]
    line = shlex.join(["ptqbridge", "build", *words])
    if as_json:
        record = {"ok": not left and not refused, "command": "import", "argv": words, "line": line, "notes": notes}
        record |= {"overlay": out if made.overlay else None, "overlay_keys": made.keys(), "differs": left}
        click.echo(json.dumps(record, ensure_ascii=False, indent=1))
        return
    for note in notes:
        click.echo(note, err=True)
    if made.overlay:
        click.echo(f"written: {out} ({', '.join(made.keys())})", err=True)
    click.echo(line)


def main(argv: list[str]) -> int:
    """Run the command."""
    command.main(argv, prog_name="ptqbridge import", standalone_mode=False)
    return 0
