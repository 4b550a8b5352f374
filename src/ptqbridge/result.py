"""What a build gave, for every target: the artifact and the account of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class AskedGot:
    """One per-layer request and what became of it in the finished artifact."""

    layer: str
    asked: str
    got: str
    met: bool


@dataclass(frozen=True)
class BuildResult:
    """A finished build. ``artifact`` is its path; ``facts`` holds what the backend found out, JSON-ready.

    ``performance_only`` is the reason when the artifact's accuracy is meaningless, else "". ``seconds`` is wall time.
    """

    target: str
    artifact: str
    precision: str
    performance_only: str = ""
    seconds: float = 0.0
    facts: Mapping[str, Any] = field(default_factory=dict)
    asked_got: tuple[AskedGot, ...] = ()
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON form."""
        return {
            "target": self.target,
            "artifact": self.artifact,
            "precision": self.precision,
            "performance_only": self.performance_only or None,
            "seconds": round(self.seconds, 3),
            "facts": dict(self.facts),
            "asked_got": [vars(row) for row in self.asked_got],
            "notes": list(self.notes),
        }
