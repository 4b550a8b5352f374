"""The mapping report: what became of every option, as text for people and as a dictionary for programs."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, is_dataclass
from typing import Any

from ptqbridge.plan import Plan, counts


def to_dict(plan: Plan) -> dict[str, Any]:
    """A plan as JSON-ready data."""
    return {
        "target": plan.target.name,
        "backend": plan.target.backend,
        "verdicts": [row.to_dict() for row in plan.rows],
        "counts": counts(plan.rows),
        "fills": [asdict(fill) for fill in plan.fills],
        "steps": [asdict(step) for step in plan.steps],
        "files": sorted(plan.files),
        "notes": list(plan.notes),
        "faults": list(plan.faults),
        "settings": plain(plan.settings),
        "performance_only": plan.performance_only or None,
    }


def plain(value: Any) -> Any:
    """Dataclasses, mappings, tuples and sets as plain JSON types."""
    if is_dataclass(value) and not isinstance(value, type):
        return {name: plain(item) for name, item in vars(value).items()}
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(plain(item) for item in value)
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return str(value)
    return value


def text(plans: Sequence[Plan], *, width: int = 0) -> str:
    """Plans side by side: under each option one entry per target, then what each target fills in, does and notes.

    An entry that would only repeat another target's says so; one that is the same everywhere stands for ``all``.
    """
    width = width or min(shutil.get_terminal_size((100, 24)).columns, 120)
    lines: list[str] = []
    names = max(len(plan.target.name) for plan in plans)
    given = [row.option for row in plans[0].rows]
    for index, option in enumerate(given):
        lines.append(option)
        rows = {plan.target.name: plan.rows[index] for plan in plans}
        first: dict[tuple[str, str, str], str] = {}
        for name, row in rows.items():
            first.setdefault((row.verdict, row.becomes, row.why), name)
        if len(rows) > 1 and len(first) == 1:
            rows = {"all": plans[0].rows[index]}
        for name, row in rows.items():
            lead = f"  {name:<{names}}  {row.verdict!s:<11}  "
            alike = first[row.verdict, row.becomes, row.why]
            if name in ("all", alike):
                lines += _entry(lead, row.becomes or ("" if row.why else "-"), row.why, width)
            else:
                lines.append(f"{lead}as {alike}")
    for plan in plans:
        lines += ["", f"== {plan.target.name} =="]
        lines += _section(
            "filled in where nothing was said", (f"{f.what}: {f.value} ({f.why})" for f in plan.fills), width
        )
        lines += _section("what is done", (_step(step.title, step.argv, step.writes) for step in plan.steps), width)
        lines += _section("note", plan.notes, width)
        lines += _section("stops the build", plan.faults, width)
        if plan.performance_only:
            lines += _section("performance only", [plan.performance_only], width)
        tally = ", ".join(f"{number} {word}" for word, number in counts(plan.rows).items())
        lines.append(f"{len(plan.rows)} options: {tally or 'none given'}")
    return "\n".join(lines) + "\n"


def _entry(lead: str, body: str, why: str, width: int) -> list[str]:
    blank = " " * len(lead)
    lines = textwrap.wrap(body, width, initial_indent=lead, subsequent_indent=blank, break_on_hyphens=False)
    if not why:
        return lines or [lead.rstrip()]
    first = blank if lines else lead
    more = textwrap.wrap(why, width, initial_indent=first, subsequent_indent=blank, break_on_hyphens=False)
    return lines + more


def _section(title: str, entries: Iterable[str], width: int) -> list[str]:
    lines = [
        line
        for entry in entries
        for line in textwrap.wrap(entry, width, initial_indent="  - ", subsequent_indent="    ", break_on_hyphens=False)
    ]
    return [f"{title}:", *lines] if lines else []


def _step(title: str, argv: Sequence[str], writes: Sequence[str]) -> str:
    import shlex

    command = f": {shlex.join(argv)}" if argv else ""
    return f"{title}{command}" + (f" -> {', '.join(writes)}" if writes else "")
