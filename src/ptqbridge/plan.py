"""The plan: what a backend intends. Data only; nothing has happened yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ptqbridge.rulebook import Outcome, Rulebook, Verdict
from ptqbridge.spec import BuildSpec, RunSpec, ShapeRange

COMMON: Mapping[str, str] = {
    "target": "the target planned for",
    "config": "options taken from that file",
    "out": "the folder of everything written",
    "json": "one JSON object instead of text",
    "dryRun": "everything is written, nothing is run",
    "help": "the help text",
    "verbose": "a detailed log, and tracebacks",
}
"""Options that mean the same on every target; no backend has a rule for them."""


@dataclass(frozen=True)
class Asked:
    """One option as a backend sees it: name, parsed value, how it was written and where."""

    name: str
    value: Any
    written: str
    source: str


@dataclass(frozen=True)
class Target:
    """What the artifact runs on. ``name`` is canonical (``nash-m``), ``asked`` is what the user wrote (``j6m``)."""

    name: str
    backend: str
    asked: str = ""


@dataclass(frozen=True)
class Request:
    """Everything a backend needs to make its plan. ``command`` is build, run or trtexec (both)."""

    target: Target
    build: BuildSpec
    run: RunSpec
    asked: tuple[Asked, ...]
    command: str = "trtexec"
    profiles: Mapping[int, Mapping[str, ShapeRange]] = field(default_factory=dict)
    """Shapes of the optimization profiles after the first, whose shapes are those of ``build``."""

    def gave(self, *names: str) -> bool:
        """Whether the user gave any of these options."""
        return any(item.name in names for item in self.asked)


@dataclass(frozen=True)
class Row:
    """One line of the mapping report."""

    option: str
    verdict: Verdict
    becomes: str
    why: str
    source: str

    def to_dict(self) -> dict[str, str]:
        """JSON form."""
        return {
            "option": self.option,
            "verdict": str(self.verdict),
            "becomes": self.becomes,
            "why": self.why,
            "source": self.source,
        }


@dataclass(frozen=True)
class Filled:
    """Something the target decides because the user did not say; ``why`` names the default's origin."""

    what: str
    value: str
    why: str


@dataclass(frozen=True)
class Step:
    """One thing that will be done: an argument vector, or an action inside this program in words."""

    title: str
    argv: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """What a backend intends for one target. ``performance_only`` is the reason when accuracy is meaningless.

    ``faults`` (of a dry run) is what is known to stop the build: the model, the data, or what does not go together.
    """

    target: Target
    build: BuildSpec
    run: RunSpec
    rows: tuple[Row, ...]
    fills: tuple[Filled, ...] = ()
    steps: tuple[Step, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=dict)
    performance_only: str = ""
    faults: tuple[str, ...] = ()

    @property
    def refused(self) -> tuple[Row, ...]:
        """The rows that stop a build."""
        return tuple(row for row in self.rows if row.verdict is Verdict.REFUSED)


C = TypeVar("C")


def map_options(request: Request, book: Rulebook[C], context: C) -> tuple[tuple[Row, ...], dict[str, Any]]:
    """Apply a backend's rules to everything the user gave: the mapping report and the settings emitted."""
    rows: list[Row] = []
    settings: dict[str, Any] = {}
    for item in request.asked:
        outcome = _outcome(item, book, context)
        settings.update(outcome.emits)
        rows.append(Row(item.written, outcome.verdict, outcome.becomes, outcome.because, item.source))
    return tuple(rows), settings


def _outcome(item: Asked, book: Rulebook[C], context: C) -> Outcome:
    if item.name in COMMON:
        return Outcome(Verdict.EXACT, COMMON[item.name])
    return book.apply(item.name, item.value, context)


def counts(rows: Iterable[Row]) -> dict[str, int]:
    """How many options got each verdict, in the order of fidelity; verdicts that do not occur are left out."""
    found = [row.verdict for row in rows]
    return {str(verdict): found.count(verdict) for verdict in Verdict if verdict in found}
