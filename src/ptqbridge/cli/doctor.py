"""``ptqbridge doctor``: what is installed, and what each target still needs."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

import ptqbridge
from ptqbridge.backends import resolve
from ptqbridge.doctor import Diagnosis, Need, diagnose


@click.command(
    "doctor",
    help="Show what is installed, which versions, what each target still needs, and the command that gets it.",
    context_settings={"help_option_names": ["--help", "-h"]},
)
@click.option("--target", "targets", multiple=True, help="Only these targets; exit status 4 when one is not ready.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(targets: tuple[str, ...], as_json: bool) -> int:
    """Print the diagnosis."""
    found = diagnose()
    wanted = [resolve(name).name for name in targets] or list(found.targets)
    if as_json:
        ready = {name: found.ready(name) for name in wanted}
        record = {"ok": True, "ptqbridge": ptqbridge.__version__, **asdict(found), "ready": ready}
        click.echo(json.dumps(record, ensure_ascii=False, indent=1))
    else:
        click.echo(_text(found, wanted), nl=False)
    return 4 if targets and not all(found.ready(name) for name in wanted) else 0


def _text(found: Diagnosis, wanted: list[str]) -> str:
    lines = [f"ptqbridge {ptqbridge.__version__}, Python {found.python}, {found.system}", "", "packages:"]
    lines += [f"  {name:<12} {version or 'not installed'}" for name, version in found.packages.items()]
    lines += ["", "targets:"]
    for names, needs in _alike(found, wanted).items():
        missing = [need for need in needs if not need.found]
        there = ", ".join(f"{need.what} {need.detail}" for need in needs if need.found)
        lines.append(f"  {', '.join(names)}: {'not ready' if missing else 'ready'}{f' ({there})' if there else ''}")
        lines += [f"    needs {need.what}: {need.detail}; {need.get}" for need in missing]
    return "\n".join(lines) + "\n"


def _alike(found: Diagnosis, wanted: list[str]) -> dict[tuple[str, ...], tuple[Need, ...]]:
    """Targets with the same needs together, in the order of the targets."""
    groups: dict[tuple[Need, ...], list[str]] = {}
    for name in wanted:
        groups.setdefault(found.targets[name], []).append(name)
    return {tuple(names): needs for needs, names in groups.items()}


def main(argv: list[str]) -> int:
    """Run the command."""
    return int(command.main(argv, prog_name="ptqbridge doctor", standalone_mode=False) or 0)
