"""What is known of one option: its grammar, default, history and help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ptqbridge.options.values import Flag, Value

MODEL, BUILD, INFERENCE, REPORTING, SYSTEM = "model", "build", "inference", "reporting", "system"
CALIBRATION, BRIDGE, HELP = "calibration", "ptqbridge", "help"
GROUPS = (MODEL, BUILD, CALIBRATION, INFERENCE, REPORTING, SYSTEM, BRIDGE, HELP)

GENERATIONS = ("8.6.1", "10.13.3", "11.1")
"""The trtexec versions whose vocabulary is tracked version by version."""


@dataclass(frozen=True)
class Option:
    """One row of the option table.

    ``since`` and ``removed`` are the first trtexec versions that parse it and that no longer do ("" for our own
    options, and for options still there). ``examples`` are values that show each behaviour a backend's rule has;
    the tables of docs/options.md are made by applying the rules to them.
    """

    name: str
    group: str
    value: Value
    help: str
    examples: tuple[str, ...]
    default: Any = None
    since: str = ""
    removed: str = ""
    gaps: tuple[tuple[str, str], ...] = ()
    aliases: tuple[str, ...] = ()
    repeats: bool = False
    hidden: bool = False
    deprecated: str = ""
    replaced_by: str = ""
    ours: bool = False

    @property
    def is_flag(self) -> bool:
        """Whether the option takes no value."""
        return isinstance(self.value, Flag)

    @property
    def spellings(self) -> tuple[str, ...]:
        """Every accepted spelling, dashes included."""
        return tuple(("-" if len(name) == 1 else "--") + name for name in (self.name, *self.aliases))

    def in_trtexec(self, version: str) -> bool:
        """Whether that version of trtexec parses the option."""
        at = _key(version)
        if not self.since or at < _key(self.since) or (self.removed and at >= _key(self.removed)):
            return False
        return not any(_key(first) <= at < _key(last) for first, last in self.gaps)

    def synopsis(self) -> str:
        """``--name=GRAMMAR`` as shown in help."""
        return f"--{self.name}" + ("" if self.is_flag else f"={self.value.describe()}")


def _key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
