"""The option tables: every option with its history and what each target makes of it, as text, Markdown or JSON.

Nothing here is written by hand: verdicts come from applying each backend's rules to the examples of the option table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ptqbridge.backends import load, resolve
from ptqbridge.options.option import GENERATIONS, GROUPS, Option
from ptqbridge.options.table import OPTIONS
from ptqbridge.plan import COMMON, Target
from ptqbridge.rulebook import Outcome, exact

SHOWN = ("cpu", "trt", "bayes", "nash-m")
"""The targets of the generated pages: one per backend and generation; others differ in numbers only."""


@dataclass(frozen=True)
class Preview:
    """What one example of an option becomes on one target."""

    example: str
    outcome: Outcome


def previews(option: Option, target: Target) -> list[Preview]:
    """Every example's outcome, each different one once."""
    found: list[Preview] = []
    for example in option.examples:
        if option.name in COMMON:
            outcome = exact(COMMON[option.name])
        else:
            outcome = load(target).preview(option.name, option.value.parse(example), target)
        if all(outcome != other.outcome for other in found):
            found.append(Preview(example, outcome))
    return found


def verdict_words(option: Option, target: Target) -> str:
    """The verdicts an option can get, as ``exact / refused``."""
    words = dict.fromkeys(str(preview.outcome.verdict) for preview in previews(option, target))
    return " / ".join(words)


def history(option: Option) -> str:
    """``8.6.1 10.13.3`` : the tracked trtexec versions that know the option; ``ours`` for our own."""
    known = [version for version in GENERATIONS if option.in_trtexec(version)]
    words = " ".join(known) or ("" if option.ours else f"{option.since} to before {option.removed}")
    return (f"{words}, ours" if words else "ours") if option.ours else words


def to_list(options: Sequence[Option], names: Sequence[str]) -> list[dict[str, Any]]:
    """JSON form: one object per option, with every example's verdict per target."""
    targets = [resolve(name) for name in names]
    return [
        {
            "name": option.name,
            "spellings": list(option.spellings),
            "group": option.group,
            "value": option.value.describe(),
            "flag": option.is_flag,
            "repeats": option.repeats,
            "default": _plain(option.default),
            "help": option.help,
            "since": option.since or None,
            "removed": option.removed or None,
            "deprecated": option.deprecated or None,
            "replaced_by": option.replaced_by or None,
            "hidden": option.hidden,
            "ours": option.ours,
            "trtexec": {version: option.in_trtexec(version) for version in GENERATIONS},
            "targets": {target.name: [_example(p) for p in previews(option, target)] for target in targets},
        }
        for option in options
    ]


def _example(preview: Preview) -> dict[str, str]:
    outcome = preview.outcome
    return {
        "example": preview.example,
        "verdict": str(outcome.verdict),
        "becomes": outcome.becomes,
        "why": outcome.because,
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def to_text(options: Sequence[Option], names: Sequence[str]) -> str:
    """Plain text: per option its help, then per target each verdict with what it becomes and why."""
    targets = [resolve(name) for name in names]
    width = max(len(name) for name in names)
    lines: list[str] = []
    for option in options:
        lines += [f"{option.synopsis()}  [{history(option)}]", f"    {option.help}"]
        for target in targets:
            for preview in previews(option, target):
                outcome = preview.outcome
                example = f"={preview.example}" if preview.example and len(option.examples) > 1 else ""
                parts = [part for part in (outcome.becomes, outcome.because) if part]
                lines.append(f"    {target.name:<{width}}  {outcome.verdict!s:<11}  {example}  {' | '.join(parts)}")
    return "\n".join(lines) + "\n"


def to_markdown(options: Sequence[Option], names: Sequence[str]) -> str:
    """The page docs/options.md: an overview per group, then every verdict with its reason per option."""
    targets = [resolve(name) for name in names]
    ours = sum(option.ours for option in OPTIONS)
    known = sum(bool(option.since) for option in OPTIONS)
    lines = [
        "# Options",
        "",
        f"Every option of trtexec {', '.join(GENERATIONS)} and the versions between ({known}), and {ours} of our own,",
        "with what each target makes of it. `ptqbridge flags` prints the same for any target; `ptqbridge explain` says",
        "it for your command line.",
        "",
        "- exact: the same meaning",
        "- approximate: the nearest thing there is, and how it differs",
        "- implied: the target always does so",
        "- ignored: no effect on the result",
        "- refused: an error, since the result would not be what was asked",
        "",
        "Several verdicts: they depend on the value or on other options. `trt` is shown for TensorRT 8.6.",
        "",
        "This file is generated: `make docs`.",
    ]
    for group in GROUPS:
        rows = [option for option in options if option.group == group]
        if not rows:
            continue
        head = ["option", "meaning", "trtexec", *names]
        lines += ["", f"## {group.capitalize()}", "", _row(head), _row(["---"] * len(head))]
        for option in rows:
            verdicts = [verdict_words(option, target) for target in targets]
            lines.append(_row([f"`{option.synopsis()}`", option.help, history(option), *verdicts]))
    lines += ["", "## What each option becomes, and why"]
    for option in options:
        lines += ["", f"### `{option.synopsis()}`", "", _row(["target", "value", "verdict", "becomes", "why"])]
        lines.append(_row(["---"] * 5))
        for target in targets:
            for preview in previews(option, target):
                outcome = preview.outcome
                value = f"`{preview.example}`" if preview.example else ""
                lines.append(_row([target.name, value, str(outcome.verdict), outcome.becomes, outcome.because]))
    return "\n".join(lines) + "\n"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
