"""Threshold searches against plain loops that follow the published descriptions step by step."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ptqbridge.quantize.histogram import Tail
from ptqbridge.quantize.thresholds import (
    entropy2_threshold,
    entropy_divergences,
    entropy_threshold,
    horizon_kl_threshold,
    legacy_threshold,
    merged_divergences,
    mse_threshold,
    percentile_index,
    percentile_keep,
    percentile_threshold,
)


def slow_divergence(counts: list[int], stop: int, levels: int) -> float:
    """One candidate, bin by bin."""
    if not any(counts[:stop]):
        return math.inf
    reference = [float(count) for count in counts[:stop]]
    reference[max(k for k in range(stop) if counts[k] > 0)] += sum(counts[stop:])
    candidate = [0.0] * stop
    for level in range(levels):
        group = range(level * stop // levels, (level + 1) * stop // levels)
        filled = [k for k in group if counts[k] > 0]
        for k in filled:
            candidate[k] = sum(counts[j] for j in group) / len(filled)
    p_sum, q_sum = sum(reference), sum(candidate)
    divergence = 0.0
    for p, q in zip(reference, candidate, strict=True):
        if p > 0:
            divergence += p / p_sum * math.log((p / p_sum) / (q / q_sum))
    return divergence


def slow_entropy2(counts: list[int], width: float, amax: float, levels: int) -> float:
    if len(counts) <= levels:
        return amax
    counts = [counts[1], *counts[1:]]
    scores = [slow_divergence(counts, stop, levels) for stop in range(levels, len(counts) + 1)]
    least = min(scores)
    best = max(index for index, score in enumerate(scores) if score <= least + 1e-12)
    return min((levels + best) * width, amax)


@st.composite
def histograms(draw: st.DrawFn) -> list[int]:
    """Random histograms of many shapes: dense, sparse, heavy-tailed, with spikes, always ending in a filled bin."""
    size = draw(st.integers(2, 90))
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    decay = draw(st.sampled_from([0.0, 0.02, 0.1, 0.5]))
    density = draw(st.sampled_from([0.1, 0.5, 1.0]))
    scale = draw(st.sampled_from([3, 100, 10**6]))
    counts = random.poisson(scale * np.exp(-decay * np.arange(size))) * (random.random(size) < density)
    if draw(st.booleans()):
        counts[0] = 10**6
    counts[-1] = max(1, counts[-1])
    return [int(count) for count in counts]


@settings(max_examples=1000)
@given(histograms(), st.sampled_from([4, 8, 16]))
def test_entropy2_equals_the_plain_loop(counts: list[int], levels: int) -> None:
    array = np.array(counts, np.int64)
    fast = entropy2_threshold(array, 0.5, len(counts) * 0.5, levels)
    assert fast == slow_entropy2(counts, 0.5, len(counts) * 0.5, levels)
    assert array.tolist() == counts


@given(histograms())
def test_divergences_equal_the_plain_loop(counts: list[int]) -> None:
    levels = 8
    if len(counts) > levels:
        fast = entropy_divergences(np.array(counts, np.int64), levels)
        slow = [slow_divergence(counts, stop, levels) for stop in range(levels, len(counts) + 1)]
        np.testing.assert_allclose(fast, slow, rtol=1e-9, atol=1e-12)
        assert (fast[np.isfinite(fast)] >= -1e-12).all()


def test_entropy2_at_full_size() -> None:
    values = np.abs(np.random.default_rng(0).standard_t(3, 400_000))
    counts = np.bincount((values / values.max() * 511).astype(int), minlength=512)
    assert entropy2_threshold(counts, 1.0, 512.0) == slow_entropy2(counts.tolist(), 1.0, 512.0, 128)


def test_entropy2_clips_a_heavy_tail_and_ignores_zeros() -> None:
    values = np.abs(np.random.default_rng(0).standard_t(2, 1_000_000))
    counts = np.histogram(values, bins=2048, range=(0, values.max()))[0]
    amax = float(values.max())
    threshold = entropy2_threshold(counts, amax / 2048, amax)
    assert threshold < 0.5 * amax
    counts[0] += 10**9
    assert entropy2_threshold(counts, amax / 2048, amax) == threshold


@pytest.mark.parametrize("counts", [[5], [0, 7], [1] * 128, [0] * 127 + [3]])
def test_entropy2_without_a_choice_takes_all(counts: list[int]) -> None:
    assert entropy2_threshold(np.array(counts), 0.1, 3.25) == 3.25


def test_entropy2_drops_one_far_outlier() -> None:
    counts = np.zeros(1500, np.int64)
    counts[:100] = np.arange(1000, 0, -10)
    counts[-1] = 1
    assert entropy2_threshold(counts, 1.0, 1499.7) <= 130.0


def test_entropy2_of_a_constant_tensor_takes_all() -> None:
    counts = np.zeros(1500, np.int64)
    counts[-1] = 1000
    assert entropy2_threshold(counts, 1.0, 1499.7) == 1499.7


def smoothed(shares: list[float], eps: float) -> list[float]:
    """``eps`` for each empty bin, taken from the others in equal parts."""
    empty = shares.count(0.0)
    return [share - eps * empty / (len(shares) - empty) if share else eps for share in shares]


def slow_merged_divergence(counts: list[int], stop: int, levels: int, eps: float = 0.0) -> float:
    """One candidate with groups of equal width, bin by bin."""
    reference = [float(count) for count in counts[:stop]]
    reference[-1] += sum(counts[stop:])
    candidate = [0.0] * stop
    width = stop // levels
    for level in range(levels):
        group = range(level * width, stop if level == levels - 1 else (level + 1) * width)
        filled = [k for k in group if reference[k] > 0]
        for k in filled:
            candidate[k] = sum(counts[j] for j in group) / len(filled)
    p_sum, q_sum = sum(reference), sum(candidate)
    if eps:
        if not q_sum:
            return -math.log(eps)
        shares = smoothed([p / p_sum for p in reference], eps), smoothed([q / q_sum for q in candidate], eps)
        return math.fsum(p * math.log(p / q) for p, q in zip(*shares, strict=True))
    if any(p > 0 and q == 0 for p, q in zip(reference, candidate, strict=True)):
        return math.inf
    return sum(
        p / p_sum * math.log((p / p_sum) / (q / q_sum)) for p, q in zip(reference, candidate, strict=True) if p > 0
    )


@given(histograms(), st.sampled_from([4, 8, 16]), st.sampled_from([0.0, 5e-10]))
def test_merged_divergences_equal_the_plain_loop(counts: list[int], levels: int, eps: float) -> None:
    counts[0] = 0
    stops = np.arange(levels, len(counts) + 1)
    if len(stops) and any(counts):
        fast = merged_divergences(np.array(counts, np.int64), stops, levels, eps)
        slow = [slow_merged_divergence(counts, int(stop), levels, eps) for stop in stops]
        np.testing.assert_allclose(fast, slow, rtol=1e-9, atol=1e-9 if eps else 1e-12)  # first order only


def tailed(bins: int, decay: float, seed: int = 0) -> np.ndarray:
    counts = np.random.default_rng(seed).poisson(1e5 * np.exp(-np.arange(bins) / decay))
    counts[-1] += 1
    return counts


@pytest.mark.parametrize("decay", [20.0, 40.0, 80.0])
def test_entropy_and_kl_choose_the_least_of_the_plain_loop(decay: float) -> None:
    counts = tailed(300, decay)
    counts[0] = 10**7
    plain = [0, *counts.tolist()[1:]]
    scores = [slow_merged_divergence(plain, stop, 128) for stop in range(128, 301)]
    first = next(i for i, score in enumerate(scores) if score <= min(scores) + 1e-12)
    assert entropy_threshold(counts, 0.5, 200.0) == min((128 + first + 0.5) * 0.5, 200.0)
    scores = [math.floor(slow_merged_divergence(plain, stop, 128, 5e-10) * 1e6) for stop in range(128, 300)]
    windows = [sum(scores[i : i + 9]) for i in range(len(scores) - 8)]
    first = windows.index(min(windows))
    assert horizon_kl_threshold(counts, 0.5, 200.0) == min((128 + first + 4.5) * 0.5, 200.0)


# Given to the calibrating operator of hb_mapper 1.24.3: counts of 1024 bins, and the bin of the threshold.
KL_SEEN = {
    "a ramp, one value in the last bin": (np.r_[np.arange(500, 0, -1), np.zeros(523), 1], 516),
    "even up to bin 900": (np.r_[np.full(900, 100), np.zeros(123), 1], 903),
    "even up to bin 150": (np.r_[np.full(150, 100), np.zeros(873), 1], 260),
    "even": (np.full(1024, 100), 1019),
    "constant": (np.r_[np.zeros(1023), 100], 1015),
    "two groups far apart": (np.r_[np.full(126, 100), np.zeros(897), 1], 132),
}


@pytest.mark.parametrize("case", KL_SEEN)
def test_kl_as_hb_mapper_chose(case: str) -> None:
    counts, last = KL_SEEN[case]
    assert horizon_kl_threshold(counts.astype(np.int64), 0.25, 256.0) == (last + 0.5) * 0.25


def test_kl_of_large_tensors_as_hb_mapper_chose() -> None:
    """Of 30 tensors (six shapes; 1000 to 4 million values) 29 get the bin of the operator, the other is 1 % off."""
    with np.load(Path(__file__).parent / "seen" / "kl_histograms.npz") as seen:
        counts, bins = seen["counts"].astype(np.int64), seen["bins"]
    ours = np.array([horizon_kl_threshold(tensor, 1.0, 1024.0) - 0.5 for tensor in counts])
    assert int((ours == bins).sum()) >= 29
    np.testing.assert_allclose(ours, bins, rtol=0.01)


def test_kl_of_a_tensor_that_no_average_improves_is_the_first_stop() -> None:
    """As seen with these 138 bins."""
    counts = np.r_[0, np.full(126, 100), np.zeros(11, np.int64)]
    counts[[127, 131, 137]] = 4000, 500, 200
    assert horizon_kl_threshold(counts, 1.0, 138.0) == 128.5


@pytest.mark.parametrize("threshold", [entropy_threshold, horizon_kl_threshold, mse_threshold])
def test_searches_without_a_choice_take_all(threshold: Callable[[np.ndarray, float, float], float]) -> None:
    assert threshold(np.array([7]), 0.0, 0.0) == 0.0
    assert threshold(np.ones(100, np.int64), 0.5, 49.9) == 49.9
    constant = np.zeros(1500, np.int64)
    constant[-1] = 10
    assert threshold(constant, 0.5, 749.9) == pytest.approx(749.9, rel=1e-2)
    assert threshold(constant, 0.5, 749.9) <= 749.9


def slow_mse(counts: np.ndarray, levels: int) -> list[float]:
    """Errors in bin widths, one candidate at a time, ties away from zero."""
    middles = np.arange(len(counts)) + 0.5
    errors = []
    for stop in range(levels, len(counts) + 1):
        step = Fraction(stop, levels - 1)
        level = [min(math.floor(Fraction(middle) / step + Fraction(1, 2)), levels - 1) for middle in middles]
        errors.append(float(sum(counts * (middles - np.array(level) * float(step)) ** 2)))
    return errors


@given(histograms(), st.sampled_from([4, 8, 16]))
def test_mse_equals_the_plain_loop(counts: list[int], levels: int) -> None:
    array = np.array(counts, np.int64)
    fast = mse_threshold(array, 0.5, len(counts) * 0.5, levels)
    if len(counts) <= levels:
        assert fast == len(counts) * 0.5
    else:
        errors = slow_mse(array, levels)
        chosen = errors[round(fast / 0.5) - levels]
        assert chosen <= min(errors) * (1 + 1e-9) + 1e-6


def test_mse_clips_a_heavy_tail() -> None:
    counts = tailed(2048, 30.0)
    assert mse_threshold(counts, 1.0, 2048.0) < 1000


def test_legacy_finds_where_an_exponential_tail_ends() -> None:
    bins = np.arange(1000)
    counts = np.floor(np.exp(12 - (bins + 0.5) / 50)).astype(np.int64)
    found = legacy_threshold(counts, 0.01, 10.0, percent=90, cutoff=0.5)
    assert found == pytest.approx(6.0, rel=0.03)  # exp(12 - 600/50) == 1


@given(histograms(), st.sampled_from([50.0, 99.0, 100.0]), st.sampled_from([0.0, 0.3, 0.9]))
def test_legacy_stays_between_cutoff_and_maximum(counts: list[int], percent: float, cutoff: float) -> None:
    array, amax = np.array(counts), len(counts) * 0.5
    found = legacy_threshold(array, 0.5, amax, percent=percent, cutoff=cutoff)
    spread = sorted(index for index, count in enumerate(counts) for _ in range(min(count, 1)))
    assert cutoff * 0.5 * spread[0] <= found <= amax


def test_legacy_without_a_tail_is_the_quantile() -> None:
    assert legacy_threshold(np.array([10, 0, 0, 10]), 1.0, 3.5, percent=50, cutoff=0.9) == 3.5
    assert legacy_threshold(np.array([10, 0, 10, 0]), 1.0, 3.5, percent=40, cutoff=0.0) == 1.0
    assert legacy_threshold(np.array([0]), 0.0, 0.0, percent=50, cutoff=0.5) == 0.0


@given(st.integers(1, 10**7), st.floats(0, 100).filter(lambda p: p > 0))
def test_percentile_index_is_exact(count: int, percent: float) -> None:
    index = percentile_index(count, percent)
    exact = Fraction(repr(percent)) * count / 100
    assert index == min(math.floor(exact), count - 1)
    assert percentile_keep(count, percent) == count - index


def test_percentile_index_is_not_moved_by_binary_fractions() -> None:
    assert percentile_index(10_000, 99.99) == 9_999
    assert percentile_index(1_000, 99.9) == 999
    assert percentile_index(10, 100) == 9


@given(st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=200), st.sampled_from([1, 50, 90, 99, 99.99, 100]))
def test_percentile_threshold_is_that_of_a_sort(values: list[float], percent: float) -> None:
    array = np.array(values, np.float32)
    tail = Tail(percentile_keep(array.size, percent))
    tail.add(array, float(array.min()), float(array.max()))
    assert percentile_threshold(tail, percent) == np.sort(np.abs(array))[percentile_index(array.size, percent)]


def test_percentile_refuses_a_tail_too_short() -> None:
    tail = Tail(1)
    tail.add(np.arange(100, dtype=np.float32), 0.0, 99.0)
    with pytest.raises(ValueError, match="50 values needed, 1 kept"):
        percentile_threshold(tail, 50)
    assert percentile_threshold(Tail(1), 50) == 0.0
