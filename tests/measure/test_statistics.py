"""Statistics against golden facts of trtexec 8.6.1 and against a slow reference in plain float32."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptqbridge.measure.statistics import (
    Distribution,
    describe,
    percentile_index,
    samples_wanted,
    shortest,
    unsure_percentiles,
)

times = st.lists(st.floats(0.0009765625, 1e5, width=32), min_size=1, max_size=300)


def in_float64(percentile: float, count: int) -> int:
    return max(count - 1 - int((1 - percentile / 100) * count), 0)


@pytest.mark.parametrize(
    ("percentile", "count", "index"),
    [
        (90, 100, 89),
        (99, 100, 99),
        (90, 1000, 899),
        (99, 1000, 990),
        (0, 10, 0),
        (100, 10, 9),
        (99, 99, 98),
        (99, 5, 4),
        (50, 1, 0),
    ],
)
def test_percentile_index_golden(percentile: float, count: int, index: int) -> None:
    assert percentile_index(percentile, count) == index


def test_float32_matters() -> None:
    assert [in_float64(p, n) for p, n in ((90, 100), (99, 100), (90, 1000), (99, 1000))] == [90, 98, 900, 989]


@pytest.mark.parametrize("percentile", [-1, 100.5, math.nan])
def test_percentile_out_of_range_is_refused(percentile: float) -> None:
    with pytest.raises(ValueError, match=r"not in \[0, 100\]"):
        percentile_index(percentile, 10)
    with pytest.raises(ValueError, match=r"not in \[0, 100\]"):
        describe([1.0], [percentile])


def test_no_values_have_no_statistics() -> None:
    assert describe([], [50]) is None and describe(None, [50]) is None
    with pytest.raises(ValueError, match="at least one"):
        percentile_index(50, 0)


@given(times, st.lists(st.floats(0, 100, width=32), max_size=4))
def test_against_slow_reference(values: list[float], percentiles: list[float]) -> None:
    found = describe(values, percentiles)
    assert found is not None
    ascending = sorted(np.float32(value) for value in values)
    count = len(ascending)
    total = np.float32(0)
    for value in ascending:
        total = total + value
    mean = total / np.float32(count)
    squares = np.float32(0)
    for value in ascending:
        squares = squares + (value - mean) * (value - mean)
    assert (found.min, found.max, found.mean) == (ascending[0], ascending[-1], mean)
    half = count // 2
    median = ascending[half] if count % 2 else (ascending[half - 1] + ascending[half]) / np.float32(2)
    assert found.median == median
    assert found.cv == np.sqrt(squares / np.float32(count)) / mean * np.float32(100)
    for percentile, value in found.percentiles:
        exclude = int((np.float32(1) - np.float32(percentile) / np.float32(100)) * np.float32(count))
        assert value == ascending[max(count - 1 - exclude, 0)]


@given(times)
def test_order_of_the_queries_does_not_matter(values: list[float]) -> None:
    assert describe(values, [50, 99]) == describe(values[::-1], [50, 99])


def test_extremes_and_order_of_percentiles() -> None:
    found = describe([3, 1, 2, 4], [99, 0, 100])
    assert found == Distribution(1, 4, 2.5, 2.5, ((99, 4), (0, 1), (100, 4)), pytest.approx(44.72136))


def test_variation_of_zero_mean_is_infinite_and_null_in_json() -> None:
    found = describe([0.0, 0.0], [90])
    assert found is not None and math.isinf(found.cv)
    assert found.to_dict()["cv"] is None


def test_mean_of_millions_of_values_does_not_drift() -> None:
    values = (0.06 + 0.01 * np.random.default_rng(1).random(3_000_000)).astype(np.float32)
    found = describe(values, [50])
    assert found is not None
    assert found.mean == pytest.approx(float(values.mean(dtype=np.float64)), rel=1e-6)
    assert found.cv == pytest.approx(
        float(values.std(dtype=np.float64) / values.mean(dtype=np.float64)) * 100, rel=1e-5
    )


def test_json_form_has_short_float32_numbers() -> None:
    found = describe([0.1], [90, 99.9])
    assert found is not None
    assert found.to_dict() == {
        "min": 0.1,
        "max": 0.1,
        "mean": 0.1,
        "median": 0.1,
        "percentiles": {"90": 0.1, "99.9": 0.1},
        "cv": 0.0,
    }


@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_shortest_gives_the_same_float32_back(value: float) -> None:
    short = shortest(value)
    assert short is not None and np.float32(short) == np.float32(value)


def test_shortest_of_what_is_not_finite_is_none() -> None:
    assert shortest(None) is None and shortest(math.nan) is None and shortest(math.inf) is None


def test_samples_wanted_matches_the_published_minima() -> None:
    assert samples_wanted(90) == 64 and samples_wanted(99) == 662  # MLPerf Inference early stopping
    assert samples_wanted(95) == 130
    assert samples_wanted(10) == 64  # a low percentile has a low tail
    assert samples_wanted(0) == samples_wanted(100) == 1


@given(st.floats(1, 99.5))
def test_samples_wanted_is_the_smallest_that_is_enough(percentile: float) -> None:
    inside = max(percentile, 100 - percentile) / 100

    def chance_of_at_most_one_beyond(count: int) -> float:
        return float(inside**count + count * (1 - inside) * inside ** (count - 1))

    count = samples_wanted(percentile)
    assert chance_of_at_most_one_beyond(count) <= 0.01 + 1e-9
    assert chance_of_at_most_one_beyond(count - 1) > 0.01 - 1e-9


def test_unsure_percentiles_are_named_once() -> None:
    assert unsure_percentiles([99, 90, 99, 100], 100) == [99]
    assert unsure_percentiles([99, 90], 63) == [90, 99]
    assert unsure_percentiles([99, 90], 662) == []
