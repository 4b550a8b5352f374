"""The command line: one small module per command, imported when it is called."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Mapping, Sequence

import click

from ptqbridge.errors import INTERRUPTED, PtqbridgeError

COMMANDS = {
    "build": "Make the artifact for a target: quantize, compile, check.",
    "run": "Run an artifact (or a model) and report its performance.",
    "trtexec": "Build and run in one go, as trtexec does (default target: trt).",
    "calibrate": "Find ranges from samples, write them in any form; convert, show, diff, verify such files.",
    "convert-precision": "Write int8 (Q/DQ), fp16 or bf16 into an ONNX model, for TensorRT 11 and strong typing.",
    "lint-data": "Find what is wrong with calibration data before it ruins a build.",
    "explain": "Say what every option becomes on each target, and run nothing.",
    "flags": "List all options and what each target makes of them.",
    "info": "Show what a model or artifact says of itself.",
    "infer": "Compute outputs on a Horizon board, or of a Journey 5, X5 or X3 .bin without one.",
    "toolchain": "Install a vendor's tools: toolchain install hb-mapper VENV.",
    "validate": "Check a YAML of hb_mapper or hb_compile: all faults at once.",
    "import": "Turn a YAML of hb_mapper or hb_compile into the command line that reproduces it.",
    "migrate": "Rewrite a hb_mapper YAML (Journey 5) for hb_compile (Journey 6), comments kept.",
    "doctor": "Show what is installed and what each target still needs.",
}
"""Every command with its one-line help, in the order shown."""

_MODULES = {"import": "import_yaml"}
"""Commands whose module cannot have their name; in the others a dash becomes an underscore."""

Main = Callable[[list[str]], int]


class _Raw(click.Command):
    """A command that receives its words untouched: their grammar is trtexec's, not click's."""

    def __init__(self, name: str) -> None:
        super().__init__(name, short_help=COMMANDS[name], add_help_option=False)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.args = args
        return args

    def invoke(self, ctx: click.Context) -> int:
        name = self.name or ""
        module = importlib.import_module(f"ptqbridge.cli.{_MODULES.get(name, name.replace('-', '_'))}")
        main: Main = module.main
        return main(list(ctx.args))


class _Commands(click.Group):
    """The group; its commands' modules are imported only when they run."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return _Raw(cmd_name) if cmd_name in COMMANDS else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            guess = f" (did you mean {near[0]}?)" if near else ""
            raise click.UsageError(f"expected a command of {', '.join(COMMANDS)}, found {args[0]!r}{guess}")
        return super().resolve_command(ctx, args)


GROUP = _Commands(
    "ptqbridge",
    help="trtexec for every chip: one command line builds, checks and times a model on NVIDIA, Horizon or this CPU.",
    epilog="'ptqbridge COMMAND --help' shows a command's options; 'ptqbridge --version' the version.",
    no_args_is_help=False,
    invoke_without_command=True,
    callback=lambda: _help_without_command(),
)


def _help_without_command() -> None:
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def main(argv: Sequence[str]) -> int:
    """Run one command line and return the exit status. Expected failures are one line on stderr, no traceback."""
    try:
        status = GROUP.main(list(argv), prog_name="ptqbridge", standalone_mode=False)
        sys.stdout.flush()
        return int(status or 0)
    except PtqbridgeError as error:
        return _fail(argv, error, error.message, error.hint, error.exit_status)
    except click.ClickException as error:
        return _fail(argv, error, error.format_message(), "", 2)
    except (KeyboardInterrupt, click.Abort):
        print("ptqbridge: interrupted", file=sys.stderr)
        if "--json" in argv:
            _print_failure("interrupted", "", INTERRUPTED)
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        from ptqbridge.files import DISK_TROUBLE, write_failure

        if isinstance(error, OSError) and error.errno in DISK_TROUBLE:
            failure = write_failure(error.filename or "the output", error)
            return _fail(argv, error, failure.message, "", failure.exit_status)
        text = f"internal error: {type(error).__name__}: {error}".splitlines()[0]
        return _fail(argv, error, text, "please report this; --verbose shows where it happened", 1)


def _fail(argv: Sequence[str], error: Exception, message: str, hint: str, status: int) -> int:
    if "--verbose" in argv:
        import traceback

        traceback.print_exception(error)
    if "--json" in argv:
        _print_failure(message, hint, status, getattr(error, "difference", ""), getattr(error, "record", {}))
        return status
    print(f"ptqbridge: error: {message}", file=sys.stderr)
    if hint:
        print(f"  hint: {hint}", file=sys.stderr)
    return status


def _print_failure(
    message: str, hint: str, status: int, difference: str = "", record: Mapping[str, object] | None = None
) -> None:
    """The one JSON object of a failed command."""
    import json

    failure = {"ok": False, "error": message, "hint": hint, "exit_status": status, "difference": difference}
    try:
        print(json.dumps({**failure, **(record or {})}, ensure_ascii=False), flush=True)
    except OSError:  # standard output is what failed, or it is full too
        print(f"ptqbridge: error: {message}", file=sys.stderr)
