"""What a rule for the CPU may look at besides its own value, and the rulebook itself."""

from __future__ import annotations

from dataclasses import dataclass

from ptqbridge.plan import Request
from ptqbridge.rulebook import Rulebook


@dataclass(frozen=True)
class Context:
    """``request`` is everything that was asked for."""

    request: Request

    @property
    def int8(self) -> bool:
        """Whether an integer artifact is asked for."""
        return "int8" in self.request.build.precision.allowed


RULES: Rulebook[Context] = Rulebook("onnxruntime")
