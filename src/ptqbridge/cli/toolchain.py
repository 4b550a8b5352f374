"""``ptqbridge toolchain``: install a vendor's tools."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click

from ptqbridge.errors import OptionError

TOOLS = ("hb-mapper",)
_SETTINGS = {"help_option_names": ["--help", "-h"]}


@click.group("toolchain", help="Install a vendor's tools.", context_settings=_SETTINGS)
def group() -> None:
    """The commands below."""


@group.command("install", context_settings=_SETTINGS)
@click.argument("tool", metavar="hb-mapper")
@click.argument("folder", metavar="VENV", type=click.Path(path_type=Path))
@click.option("--python", default="", help="The Python 3.10 to use (default: python3.10 on PATH, else pyenv's).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--verbose", is_flag=True, help="Show a traceback on errors.")
def install_command(tool: str, folder: Path, python: str, as_json: bool, verbose: bool) -> int:
    """Make a virtual environment VENV with hb_mapper (targets bayes, bayes-e, bernoulli2).

    Its packages come from the index that pip is set to use; they are their vendor's, under its terms.
    """
    from ptqbridge.toolchains.install import install

    if tool not in TOOLS:
        raise OptionError(f"toolchain install: expected {' or '.join(TOOLS)}, found {tool!r}")
    stream = sys.stderr if as_json else sys.stdout
    program = install(folder, python=python, say=lambda text: print(text, file=stream, flush=True))
    if as_json:
        click.echo(json.dumps({"ok": True, "command": "toolchain", "hb_mapper": str(program)}, ensure_ascii=False))
    else:
        click.echo(f"use it with:  export PTQBRIDGE_HB_MAPPER={program}")
    return 0


def main(argv: list[str]) -> int:
    """Run the command; usage errors are click's, exit status 2."""
    if not argv:
        argv = ["--help"]
    return int(group.main(argv, prog_name="ptqbridge toolchain", standalone_mode=False) or 0)
