"""Collectors are exact: against plain NumPy on everything at once, in any order and split."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ptqbridge.quantize.histogram import Collector, Histogram, SteppedHistogram, Tail

batches = st.lists(
    hnp.arrays(np.float32, st.integers(1, 50), elements=st.floats(-(2.0**70), 2.0**70, width=32)),
    min_size=1,
    max_size=6,
)


def feed(collector: Collector, values: np.ndarray) -> None:
    assert collector.add(values) == (values.min(), values.max())


def binned(values: np.ndarray, bins: int) -> tuple[np.ndarray, int | None]:
    """All magnitudes at once, with exact integer arithmetic."""
    peak = float(np.abs(values).max())
    if peak == 0:
        return np.bincount(np.zeros(values.size, int), minlength=bins), None
    exponent = max(math.frexp(peak)[1], -100)
    index = [int(math.ldexp(abs(float(v)), -exponent) * bins) for v in values]
    return np.bincount(index, minlength=bins), exponent


@given(batches, st.integers(0, 6))
def test_histogram_is_that_of_all_values_at_once(parts: list[np.ndarray], split: int) -> None:
    one, other = Histogram(256), Histogram(256)
    for position, part in enumerate(parts):
        feed(one if position < split else other, part)
    one.merge(other)
    counts, exponent = binned(np.concatenate(parts), 256)
    assert one.exponent == exponent
    assert one.counts.tolist() == counts.tolist()


def test_histogram_over_chunk_borders() -> None:
    values = np.random.default_rng(0).normal(size=100_001).astype(np.float32)
    histogram = Histogram(2048)
    feed(histogram, values)
    assert histogram.counts.tolist() == binned(values, 2048)[0].tolist()
    assert histogram.counts.sum() == values.size
    assert histogram.width == 8 / 2048
    assert len(histogram.used) == int(np.abs(values).max() / histogram.width) + 1


def test_histogram_of_zeros() -> None:
    histogram = Histogram(256)
    feed(histogram, np.zeros(5, np.float32))
    assert histogram.width == 0.0
    assert histogram.used.tolist() == [5]
    feed(histogram, np.array([1.0], np.float32))
    assert histogram.counts[0] == 5
    assert histogram.counts[128] == 1


def test_histogram_wants_a_power_of_two() -> None:
    with pytest.raises(ValueError, match="power of two"):
        Histogram(1000)


@given(batches, st.integers(0, 6))
def test_stepped_histogram_appends_bins(parts: list[np.ndarray], split: int) -> None:
    peak = float(np.abs(parts[0]).max())
    one, other = SteppedHistogram(peak, 64, 256), SteppedHistogram(peak, 64, 256)
    for position, part in enumerate(parts):
        feed(one if position < split else other, part)
    one.merge(other)
    values = np.abs(np.concatenate(parts))
    if peak == 0.0:
        assert one.width == 0.0
        assert not one.counts.any()
        return
    assert one.counts.sum() == values.size
    assert 64 <= len(one.counts) <= 256
    assert one.counts[63] >= 1  # the peak itself
    lowest = values[values < peak / 64 * 0.999]
    assert one.counts[0] >= lowest.size


def test_stepped_histogram_counts() -> None:
    histogram = SteppedHistogram(2.0, 4, 8)
    feed(histogram, np.array([-2.0, 1.9, 0.4, 0.0], np.float32))
    assert histogram.counts.tolist() == [2, 0, 0, 2]
    feed(histogram, np.array([2.6, 100.0], np.float32))
    assert histogram.counts.tolist() == [2, 0, 0, 2, 0, 1, 0, 1]
    assert histogram.width == 0.5


@given(batches, st.integers(1, 40), st.integers(0, 6))
def test_tail_holds_the_largest(parts: list[np.ndarray], keep: int, split: int) -> None:
    one, other = Tail(keep), Tail(keep)
    for position, part in enumerate(parts):
        feed(one if position < split else other, part)
    one.merge(other)
    values = np.sort(np.abs(np.concatenate(parts)))[::-1]
    assert one.count == values.size
    expected = values[:keep]
    assert one.largest().tolist() == expected[expected > 0].tolist()


def test_tail_over_chunk_borders_and_shrinking() -> None:
    values = np.random.default_rng(1).normal(size=300_000).astype(np.float32)
    tail = Tail(100)
    for part in np.array_split(values, 7):
        feed(tail, part)
    assert tail.largest().tolist() == np.sort(np.abs(values))[::-1][:100].tolist()


def test_tail_of_a_saturated_tensor_stays_small() -> None:
    tail = Tail(10)
    for _ in range(20):
        feed(tail, np.full(50_000, 6.0, np.float32))
    assert tail.largest().tolist() == [6.0] * 10
    assert tail._kept.size <= 10 + 2 + 1024
