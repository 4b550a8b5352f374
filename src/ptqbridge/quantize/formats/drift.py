"""How far two sets of ranges lie apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ptqbridge.quantize.formats.match import pair
from ptqbridge.quantize.ranges import Ranges


@dataclass(frozen=True)
class Drift:
    """One tensor in both: its largest magnitudes, and ``ratio`` = second / first (inf when only the first is 0).

    ``other`` is its name in the second set when that differs, and the pair was made by position.
    """

    name: str
    first: float
    second: float
    other: str = ""

    @property
    def ratio(self) -> float:
        """second / first; 1 when both are 0."""
        if self.first == self.second:
            return 1.0
        return self.second / self.first if self.first else math.inf

    @property
    def factor(self) -> float:
        """How many times the larger is the smaller: 1 or more."""
        return max(self.ratio, 1 / self.ratio if self.ratio else math.inf)


@dataclass(frozen=True)
class Comparison:
    """All tensors in both sets, furthest apart first, and the names in one only."""

    drifts: tuple[Drift, ...]
    only_first: tuple[str, ...]
    only_second: tuple[str, ...]

    @property
    def factor(self) -> float:
        """The largest factor, 1 when nothing is in both."""
        return self.drifts[0].factor if self.drifts else 1.0


def compare(first: Ranges, second: Ranges) -> Comparison:
    """Compare by tensor; names that differ are paired by position (see ``match``)."""
    pairs = pair(list(first.tensors), list(second.tensors))
    drifts = [Drift(name, first.tensors[name].amax, second.tensors[name].amax) for name in pairs.same]
    drifts += [
        Drift(name, first.tensors[name].amax, second.tensors[other].amax, other) for name, other in pairs.moved.items()
    ]
    drifts.sort(key=lambda drift: -drift.factor)
    return Comparison(tuple(drifts), pairs.only_left, pairs.only_right)
