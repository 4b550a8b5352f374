"""``ptqbridge explain``: what every option becomes on each target; nothing is run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from ptqbridge.backends import load
from ptqbridge.cli.helptext import command_help
from ptqbridge.invocation import Invocation, understand
from ptqbridge.options.checks import no_model
from ptqbridge.options.effective import changed
from ptqbridge.plan import Request
from ptqbridge.report import mapping

_DEFAULT = "cpu"


def main(argv: list[str]) -> int:
    """Words before ``--`` are explain's, words behind it the command line to explain; without ``--`` all are both."""
    own, behind, given = _split(argv)
    if not argv:
        raise no_model()
    if "--help" in own or "-h" in own:
        print(command_help("explain"), end="")
        return 0
    as_json = "--json" in own
    invocation = understand([*own, *given], command="trtexec", default_target=_DEFAULT) if given or not behind else None
    if invocation is None:
        print(
            json.dumps({"ok": True, "help": True}) if as_json else command_help("trtexec"), end="\n" if as_json else ""
        )
        return 0
    plans = [load(request.target).plan(request) for request in _by_version(invocation.requests)]
    if as_json or "json" in invocation.options:
        print(json.dumps(_report(invocation, plans), ensure_ascii=False, indent=1))
    else:
        print(_text(invocation, plans), end="")
    return 0


def _split(argv: list[str]) -> tuple[list[str], bool, list[str]]:
    if "--" not in argv:
        return argv, False, []
    cut = argv.index("--")
    return argv[:cut], True, argv[cut + 1 :]


def _by_version(requests: Iterable[Request]) -> Iterator[Request]:
    """The requests, one per TensorRT version where ``--trtVersion`` names several: their plans stand side by side."""
    for request in requests:
        asked = next((item for item in reversed(request.asked) if item.name == "trtVersion"), None)
        versions = [text.strip() for text in asked.value.split(",")] if asked else []
        if asked is None or request.target.backend != "tensorrt" or len(versions) < 2:
            yield request
            continue
        for version in dict.fromkeys(versions):
            items = tuple(replace(item, value=version) if item is asked else item for item in request.asked)
            target = replace(request.target, name=f"{request.target.name} {version}")
            yield replace(request, target=target, asked=items)


def _report(invocation: Invocation, plans: list[Any]) -> dict[str, Any]:
    options = invocation.options
    return {
        "ok": True,
        "argv": list(invocation.argv),
        "spec": mapping.plain({"build": invocation.build, "run": invocation.run}),
        "effective": changed(options),
        "differences": [{"row": item.row, "option": item.option} for item in options.deviations],
        "warnings": list(options.warnings),
        "verdicts": {plan.target.name: [row.to_dict() for row in plan.rows] for plan in plans},
        "plans": {plan.target.name: mapping.to_dict(plan) for plan in plans},
    }


def _text(invocation: Invocation, plans: list[Any]) -> str:
    lines = [f"warning: {warning}" for warning in invocation.options.warnings]
    rows = dict.fromkeys(item.row for item in invocation.options.deviations if item.row != "our-option")
    if rows:
        lines.append(f"differs from trtexec 8.6.1: {', '.join(rows)} (docs/differences.md)")
    return "".join(f"{line}\n" for line in lines) + mapping.text(plans)
