"""``ptqbridge info``: what a model or artifact says of itself."""

from __future__ import annotations

import json

import click


@click.command(
    "info",
    help="Show what a file is: .onnx (interface, opset, precision and ptqbridge's stamps), .bin (hb_model_info and the "
    "record of its build), .hbm, .engine (the record of the build, if there is one).",
    context_settings={"help_option_names": ["--help", "-h"]},
)
@click.argument("path", metavar="FILE")
@click.option(
    "--toolchain",
    default="local",
    show_default=True,
    help="Where hb_model_info runs: local, docker:IMAGE or ssh://HOST.",
)
@click.option("--board", default="", help="Ask hrt_model_exec on a board: ssh://USER@HOST[:PORT] or local.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.option("--verbose", is_flag=True, hidden=True)
def command(path: str, toolchain: str, board: str, as_json: bool, verbose: bool) -> int:
    """Print what is known."""
    from ptqbridge.report.artifact import describe, text

    record = describe(path, toolchain, board)
    if as_json:
        record.pop("shown", None)
        click.echo(json.dumps({"ok": True, "command": "info", **record}, ensure_ascii=False, indent=1))
    else:
        click.echo(text(record), nl=False)
    return 0


def main(argv: list[str]) -> int:
    """Run the command."""
    return int(command.main(argv, prog_name="ptqbridge info", standalone_mode=False) or 0)
