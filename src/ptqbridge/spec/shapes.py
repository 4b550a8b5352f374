"""Ranges of input shapes."""

from __future__ import annotations

from dataclasses import dataclass

Shape = tuple[int, ...]


@dataclass(frozen=True)
class ShapeRange:
    """Smallest, tuning and largest shape of one input. An empty shape where the user named none (or rank 0)."""

    min: Shape
    opt: Shape
    max: Shape

    @property
    def is_fixed(self) -> bool:
        """Whether only one shape is possible."""
        return self.min == self.opt == self.max

    def text(self) -> str:
        """``1x3..4x3..8x3``, or ``1x3`` when fixed."""
        parts = ["x".join(map(str, shape)) or "()" for shape in (self.min, self.opt, self.max)]
        return parts[0] if self.is_fixed else "..".join(parts)
