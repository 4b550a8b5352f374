"""``ptqbridge flags``: the whole option table, per target."""

from __future__ import annotations

import json

import click

from ptqbridge.backends import resolve
from ptqbridge.errors import OptionError
from ptqbridge.options.differences import markdown
from ptqbridge.options.option import Option
from ptqbridge.options.table import BY_NAME, OPTIONS, nearest
from ptqbridge.report import tables


@click.command(
    "flags",
    help="List options (all, or those named) with their history and what each target makes of them.",
    context_settings={"help_option_names": ["--help", "-h"]},
)
@click.argument("names", nargs=-1, metavar="[OPTION]...")
@click.option("--target", "targets", multiple=True, help="A target or chip; may be repeated. Default: one per backend.")
@click.option("--format", "form", type=click.Choice(["text", "markdown", "json"]), default="text", show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Short for --format=json.")
@click.option("--differences", is_flag=True, help="Print where we differ from trtexec (Markdown) instead.")
@click.option("--keys", is_flag=True, help="Print how each key of hb_mapper's YAML is reached (Markdown) instead.")
def command(
    names: tuple[str, ...], targets: tuple[str, ...], form: str, as_json: bool, differences: bool, keys: bool
) -> None:
    """Print the table."""
    if keys:
        from ptqbridge.backends.horizon import reach5

        click.echo(reach5.markdown(), nl=False)
        return
    if differences:
        click.echo(markdown(), nl=False)
        return
    shown = [resolve(name).name for name in targets] or list(tables.SHOWN)
    options = [_option(name) for name in names] or list(OPTIONS)
    if as_json or form == "json":
        click.echo(json.dumps(tables.to_list(options, shown), ensure_ascii=False, indent=1))
    elif form == "markdown":
        click.echo(tables.to_markdown(options, shown), nl=False)
    else:
        click.echo(tables.to_text(options, shown), nl=False)


def _option(word: str) -> Option:
    option = BY_NAME.get(word.lstrip("-"))
    if option is None:
        guess = nearest(word)
        raise OptionError(f"unknown option {word!r}", hint=f"did you mean {guess}?" if guess else "")
    return option


def main(argv: list[str]) -> int:
    """Run the command."""
    command.main(argv, prog_name="ptqbridge flags", standalone_mode=False)
    return 0
