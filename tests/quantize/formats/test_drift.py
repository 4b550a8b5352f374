"""Drift between two sets of ranges."""

from __future__ import annotations

import math

from ptqbridge.quantize.formats.drift import compare
from ptqbridge.quantize.ranges import Ranges, TensorRange


def of(**amax: float) -> Ranges:
    """Symmetric ranges."""
    return Ranges("max", "", 0, "", "", {}, {name: TensorRange(-a, a, "max") for name, a in amax.items()})


def test_furthest_apart_comes_first_in_either_direction() -> None:
    found = compare(of(a=1.0, b=4.0, c=1.0), of(a=2.0, b=1.0, c=1.0))
    assert [(drift.name, drift.ratio) for drift in found.drifts] == [("b", 0.25), ("a", 2.0), ("c", 1.0)]
    assert found.factor == 4.0


def test_zero_against_something_is_infinite_and_zero_against_zero_equal() -> None:
    found = compare(of(a=0.0, b=0.0, c=1.0), of(a=0.0, b=1.0, c=0.0))
    assert [drift.factor for drift in found.drifts] == [math.inf, math.inf, 1.0]


def test_renamed_tensors_are_paired_by_position_and_say_so() -> None:
    found = compare(of(x=1.0, conv=2.0, out=1.0), of(x=1.0, fused=3.0, out=1.0))
    assert (found.drifts[0].name, found.drifts[0].other, found.drifts[0].ratio) == ("conv", "fused", 1.5)
    assert found.only_first == found.only_second == ()


def test_nothing_in_common() -> None:
    found = compare(of(a=1.0), of(b=1.0, c=1.0))
    assert (found.drifts, found.factor, found.only_first, found.only_second) == ((), 1.0, ("a",), ("b", "c"))
