"""Output comparison."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ptqbridge.errors import InputError
from ptqbridge.measure.compare import compare_outputs, sample_cosines, top1_accuracy, top1_agreement

arrays = hnp.arrays(np.float32, (4, 5), elements=st.floats(-(2.0**100), 2.0**100, width=32))


def test_known_figures() -> None:
    found = compare_outputs(np.array([[3.0, 4.0]]), np.array([[4.0, 3.0]]))
    assert found.cosine == pytest.approx(24 / 25)
    assert found.max_abs == 1 and found.max_rel == pytest.approx(1 / 3) and found.l2 == pytest.approx(math.sqrt(2))
    assert found.top1 == 0 and found.elements == 2 and found.not_finite == 0
    assert found.to_dict()["max_abs"] == 1


@given(arrays)
def test_equal_outputs_are_perfect(array: Any) -> None:
    found = compare_outputs(array, array.copy())
    assert found.cosine == pytest.approx(1) and found.max_abs == 0 and found.l2 == 0 and found.top1 == 1


@given(arrays, arrays)
def test_cosine_is_symmetric_bounded_and_blind_to_scale(one: Any, two: Any) -> None:
    cosine = compare_outputs(one, two).cosine
    assert cosine is not None and -1 <= cosine <= 1
    assert compare_outputs(two, one).cosine == pytest.approx(cosine)
    assert compare_outputs(one, two.astype(np.float64) * 8).cosine == pytest.approx(cosine)


def test_accumulation_is_float64() -> None:
    reference = np.full(1_000_000, 0.1, dtype=np.float32)
    found = compare_outputs(reference, np.zeros_like(reference) + np.float32(0.2))
    assert found.l2 == pytest.approx(0.1 * 1000, rel=1e-7) and found.cosine == pytest.approx(1, abs=1e-12)


def test_zeros() -> None:
    zero, one = np.zeros(3), np.ones(3)
    assert compare_outputs(zero, zero).cosine == 1 and compare_outputs(zero, zero).max_rel is None
    assert compare_outputs(zero, one).cosine == 0 and compare_outputs(one, zero).max_rel == 1


def test_not_finite_places_are_counted_and_left_out() -> None:
    reference = np.array([1.0, np.nan, np.inf, 2.0, 5.0])
    other = np.array([1.0, np.nan, -np.inf, 2.0, np.nan])
    found = compare_outputs(reference, other)
    assert found.not_finite == 2 and found.cosine == pytest.approx(1) and found.max_abs == 0
    nothing = compare_outputs(np.array([np.nan]), np.array([1.0]))
    assert nothing.cosine is None and nothing.not_finite == 1


def test_integers_and_empty_tensors() -> None:
    assert compare_outputs(np.array([1, 2]), np.array([1, 2])).max_abs == 0
    assert compare_outputs(np.zeros((0, 3)), np.zeros((0, 3))).cosine is None
    assert compare_outputs(np.array([200], np.uint8), np.array([250], np.uint8)).max_abs == 50


def test_different_shapes_are_named() -> None:
    with pytest.raises(InputError, match=r"prob: shapes differ, reference \(2,\), compared \(3,\)"):
        compare_outputs(np.zeros(2), np.zeros(3), "prob")


def test_cosine_of_each_sample() -> None:
    cosines = sample_cosines(np.array([[1.0, 0.0], [1.0, 1.0]]), np.array([[0.0, 1.0], [2.0, 2.0]]))
    assert cosines.tolist() == pytest.approx([0, 1])
    with pytest.raises(InputError, match="scalar"):
        sample_cosines(np.array(1.0), np.array(1.0))


def test_top1() -> None:
    reference, other = np.array([[1, 2], [3, 1], [0, 1]]), np.array([[1, 2], [1, 3], [0, 9]])
    assert top1_agreement(reference, other) == pytest.approx(2 / 3)
    assert top1_agreement(np.zeros((2, 1)), np.zeros((2, 1))) is None
    assert top1_agreement(np.array(1.0), np.array(1.0)) is None
    assert top1_accuracy(reference, np.array([1, 0, 0])) == pytest.approx(2 / 3)
    with pytest.raises(InputError, match="3 outputs by 2 labels"):
        top1_accuracy(reference, np.array([1, 0]))
