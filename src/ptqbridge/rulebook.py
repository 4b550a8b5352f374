"""Rules: what one option becomes on one backend, with its verdict and the reason.

A backend's ``rules`` fill one ``Rulebook`` in the order of the option table. The same rules serve ``explain``, the
generated tables and the build itself, so that what is said and what is done cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Generic, TypeVar


class Verdict(str, Enum):
    """How faithfully an option is carried over."""

    EXACT = "exact"
    APPROXIMATE = "approximate"
    IMPLIED = "implied"
    IGNORED = "ignored"
    REFUSED = "refused"

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class Outcome:
    """What one option value becomes. ``emits`` holds backend settings by name, consumed by that backend's plan."""

    verdict: Verdict
    becomes: str = ""
    because: str = ""
    emits: Mapping[str, Any] = field(default_factory=dict)


def exact(becomes: str, because: str = "", **emits: Any) -> Outcome:
    """The same meaning, rewritten."""
    return Outcome(Verdict.EXACT, becomes, because, emits)


def approximate(becomes: str, because: str, **emits: Any) -> Outcome:
    """The nearest thing the target has; ``because`` says how it differs."""
    return Outcome(Verdict.APPROXIMATE, becomes, because, emits)


def implied(because: str, **emits: Any) -> Outcome:
    """The target always behaves so."""
    return Outcome(Verdict.IMPLIED, "", because, emits)


def ignored(because: str) -> Outcome:
    """Without effect on the result, and said aloud."""
    return Outcome(Verdict.IGNORED, "", because)


def refused(because: str) -> Outcome:
    """Going on would give the user something else than asked."""
    return Outcome(Verdict.REFUSED, "", because)


C = TypeVar("C")
Rule = Callable[[Any, C], Outcome]


class Rulebook(Generic[C]):
    """All rules of one backend, by option name. ``C`` is the backend's context type."""

    def __init__(self, backend: str) -> None:
        self.backend = backend
        self._rules: dict[str, Rule[C]] = {}

    def rule(self, *names: str) -> Callable[[Rule[C]], Rule[C]]:
        """Register a function ``(value, context) -> Outcome`` for these options."""

        def register(function: Rule[C]) -> Rule[C]:
            for name in names:
                self._add(name, function)
            return function

        return register

    def always(self, *names: str, outcome: Outcome) -> None:
        """Register one outcome for these options, whatever their value."""
        for name in names:
            self._add(name, lambda value, context: outcome)

    def __contains__(self, name: str) -> bool:
        return name in self._rules

    def __iter__(self) -> Any:
        return iter(self._rules)

    def apply(self, name: str, value: Any, context: C) -> Outcome:
        """The outcome of one option value. Raises KeyError for an option without a rule: a bug, caught by a test."""
        return self._rules[name](value, context)

    def _add(self, name: str, function: Rule[C]) -> None:
        if name in self._rules:
            raise ValueError(f"{self.backend}: two rules for --{name}")
        self._rules[name] = function
