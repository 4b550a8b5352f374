"""What the user gave: option values, each with the place it came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ptqbridge.options.option import Option
from ptqbridge.options.table import BY_NAME

COMMAND_LINE = "command line"


@dataclass(frozen=True)
class Given:
    """One option the user gave. ``value`` is parsed; ``text`` is as written; ``source`` says where."""

    option: Option
    value: Any
    text: str
    source: str = COMMAND_LINE

    @property
    def written(self) -> str:
        """The option as one command-line word."""
        return f"--{self.option.name}" + ("" if self.option.is_flag else f"={self.text}")


@dataclass(frozen=True)
class Deviation:
    """A place where this parse knowingly differs from trtexec 8.6.1; ``row`` names the row of docs/differences.md."""

    row: str
    option: str


@dataclass(frozen=True)
class GivenOptions:
    """Everything the user gave, in the order given; a later source never hides that an option was given."""

    items: tuple[Given, ...]
    help: bool = False
    warnings: tuple[str, ...] = ()
    deviations: tuple[Deviation, ...] = ()
    sections: Mapping[int, tuple[Given, ...]] = field(default_factory=dict)
    """Shape options that belong to a numbered ``--profile`` (trtexec 9.1 and later)."""

    def __contains__(self, name: str) -> bool:
        return any(given.option.name == name for given in self.items)

    def __iter__(self) -> Iterator[Given]:
        return iter(self.items)

    def has(self, *names: str) -> bool:
        """Whether any of these options was given."""
        return any(name in self for name in names)

    def value(self, name: str) -> Any:
        """The option's value: what was given, or the table's default; a tuple for options that may be repeated."""
        option = BY_NAME[name]
        values = [given.value for given in self.items if given.option.name == name]
        if option.repeats:
            return tuple(value for value in values if value is not None)
        if option.is_flag:
            return bool(values)
        if not values or values[-1] is None:
            return option.default
        return values[-1]
