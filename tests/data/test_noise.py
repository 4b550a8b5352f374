"""Seeded noise: trtexec's own values."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptqbridge.data import noise, seeded_noise
from ptqbridge.errors import InputError
from ptqbridge.spec.tensor import TensorSpec


def slow_engine(seed: int, count: int) -> list[int]:
    state, states = seed + 1, []
    for _ in range(count):
        state = state * 16807 % (2**31 - 1)
        states.append(state)
    return states


def draw(dtype: str, count: int, **options: int) -> np.ndarray:
    return noise(TensorSpec("x", dtype, (count,)), (count,), **options)


def test_first_values_are_those_trtexec_feeds() -> None:
    """Values observed from the C++ library's default engine and distributions."""
    assert np.allclose(draw("float32", 4), [-0.9999843, -0.7369244, 0.5112107, -0.0826997], atol=1e-7)
    assert draw("int32", 6).tolist() == [-128, -95, 65, -11, 8, -72]
    assert draw("int8", 6).tolist() == [-128, -95, 65, -11, 8, -72]


@given(st.integers(0, 3), st.integers(0, 400), st.integers(0, 5))
def test_blocks_continue_the_engine(seed: int, count: int, index: int) -> None:
    states = slow_engine(seed, count * (index + 1))[count * index :]
    expected = (np.array(states, np.uint64) - np.uint64(1)).astype(np.float32) / np.float32(2**31) * 2 - 1
    assert np.array_equal(draw("float32", count, seed=seed, index=index), expected.astype(np.float32))


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [("float16", -1, 1), ("float32", -1, 1), ("float64", -1, 1), ("int8", -128, 127), ("int64", -128, 127),
     ("uint8", 0, 255), ("bool", 0, 1)],
)  # fmt: skip
def test_ranges_are_filled(dtype: str, low: float, high: float) -> None:
    values = draw(dtype, 50_000)
    assert values.dtype == np.dtype(dtype)
    wide = values.astype(np.float64)
    assert low <= wide.min() < low + 0.01
    assert high - 0.01 < wide.max() <= high
    assert abs(wide.mean() - (low + high) / 2) < (high - low) * 0.01


def test_samples_repeat_and_differ() -> None:
    specs = [TensorSpec("a", "float32", ("n", 3)), TensorSpec("b", "int64", (2, 2))]
    samples = seeded_noise(specs, 3)
    first, again = list(samples), list(samples)
    assert len(samples) == len(first) == 3
    assert first[0].arrays["a"].shape == (1, 3)
    for one, other in zip(first, again, strict=True):
        assert all(np.array_equal(one.arrays[name], other.arrays[name]) for name in ("a", "b"))
    assert not np.array_equal(first[0].arrays["a"], first[1].arrays["a"])
    assert samples.fingerprint == seeded_noise(specs, 3).fingerprint
    assert samples.fingerprint != seeded_noise(specs, 3, seed=1).fingerprint
    assert samples.notes == ("no data: 3 samples of seeded noise",)


def test_types_without_numbers() -> None:
    with pytest.raises(InputError, match="cannot hold this type"):
        seeded_noise([TensorSpec("s", "object", (1,))], 1)
