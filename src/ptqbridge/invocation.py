"""From a command line to one request per target: job file, options, specs."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ptqbridge.backends import resolve
from ptqbridge.errors import InputError, OptionError
from ptqbridge.options.checks import no_model
from ptqbridge.options.given import GivenOptions
from ptqbridge.options.parse import parse
from ptqbridge.options.shapes import later_profiles
from ptqbridge.options.tospec import build_spec, run_spec
from ptqbridge.plan import Asked, Request
from ptqbridge.spec import BuildSpec, RunSpec


@dataclass(frozen=True)
class Invocation:
    """A command line, understood."""

    argv: tuple[str, ...]
    options: GivenOptions
    build: BuildSpec
    run: RunSpec
    requests: tuple[Request, ...]


def understand(argv: Sequence[str], *, command: str, default_target: str = "") -> Invocation | None:
    """Read a command line for a command; None when help was asked for, which ``trtexec`` takes no words at all for.

    Raises OptionError (exit 2) for a wrong command line and InputError (exit 3) for an unreadable job file.
    """
    path = _job_path(argv)
    options = parse(argv, job=read_job(path) if path else None, job_name=os.path.basename(path))
    if options.help:
        if not argv and command != "trtexec":
            raise no_model()
        return None
    names = options.value("target") or ((default_target,) if default_target else ())
    if not names:
        raise OptionError("--target: expected at least one target, found none", hint="for instance --target=cpu")
    targets = {target.name: target for target in map(resolve, names)}
    build, run = build_spec(options), run_spec(options)
    asked = tuple(Asked(item.option.name, item.value, item.written, item.source) for item in options)
    profiles = later_profiles(options)
    requests = tuple(Request(target, build, run, asked, command, profiles) for target in targets.values())
    return Invocation(tuple(argv), options, build, run, requests)


def single_target(invocation: Invocation) -> Request:
    """The one request of a command that serves one target at a time. Raises OptionError for several."""
    if len(invocation.requests) > 1:
        names = ", ".join(request.target.name for request in invocation.requests)
        raise OptionError(f"--target: this command takes one target, found {names}", hint="call it once per target")
    return invocation.requests[0]


def _job_path(argv: Sequence[str]) -> str:
    for index, word in enumerate(argv):
        name, equals, value = word.partition("=")
        if name == "--config":
            following = argv[index + 1] if index + 1 < len(argv) else ""
            path = value if equals else following
            if not path or path.startswith("--"):
                raise OptionError("--config: expected the path of a YAML job file, found nothing")
            return path
    return ""


def read_job(path: str) -> Mapping[str, Any]:
    """The mapping in a YAML job file. Paths in it are as on the command line: relative to the working directory."""
    import yaml

    try:
        with open(path, encoding="utf-8") as file:
            content = yaml.safe_load(file)
    except OSError as error:
        raise InputError(f"--config: cannot read {path}: {error.strerror}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"--config: {path} is not YAML: {' '.join(str(error).split())}") from None
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise InputError(f"--config: expected a mapping of options in {path}, found {type(content).__name__}")
    return content
