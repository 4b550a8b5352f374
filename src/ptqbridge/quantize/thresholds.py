"""From what was collected of a tensor to the magnitude at which it is clipped: one function per method.

All thresholds are in the tensor's own unit and at most the largest magnitude seen.
"""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ptqbridge.quantize.histogram import Tail

LEVELS = 128
"""Magnitudes an int8 value can take on one side of zero, as in NVIDIA's public descriptions (8 bits less the sign)."""

_SMOOTHED = 9
"""Neighbouring divergences that hb_mapper's ``kl`` averages."""

_EPS = 5e-10
"""The share that it gives to an empty bin."""

_GRAIN = 1e-6
"""It cuts each divergence to a whole number of these before it averages."""

_TIE = 1e-12
"""Divergences nearer than this are equal: they differ by the rounding of sums in another order only."""


def percentile_index(count: int, percent: float) -> int:
    """The index, among ``count`` magnitudes in ascending order, of the one that ``percent`` (0..100) stands for.

    It is ``floor(percent/100 * count)``, at most ``count - 1``; computed on the decimal digits of ``percent`` so that
    99.99 of 10000 is 9999 exactly. It is also what Horizon's hb_mapper does with ``max_percentile`` (observed with
    version 1.24.3: a fraction of 0..1 there, where anything below 0.995 acts as 0.995).
    """
    return min(int(Fraction(str(percent)) * count / 100), count - 1)


def percentile_keep(count: int, percent: float) -> int:
    """How many of the largest of ``count`` magnitudes must be kept to know the one at ``percentile_index``."""
    return count - percentile_index(count, percent) if count else 1


def percentile_threshold(tail: Tail, percent: float) -> float:
    """The magnitude at ``percentile_index`` of all values ``tail`` has seen, exactly.

    Raises ``ValueError`` when the tail keeps too few values to tell.
    """
    if tail.count == 0:
        return 0.0
    rank = percentile_keep(tail.count, percent)
    if rank > tail.keep:
        raise ValueError(f"{rank} values needed, {tail.keep} kept")
    largest = tail.largest()
    return float(largest[rank - 1]) if rank <= largest.size else 0.0


def entropy_divergences(counts: npt.NDArray[np.int64], levels: int = LEVELS) -> npt.NDArray[np.float64]:
    """Kullback-Leibler divergence of clipping a histogram after ``i`` bins, for each ``i`` in ``levels..len(counts)``.

    For a candidate ``i`` the reference P is ``counts[:i]`` with everything beyond added to the last bin of it that is
    not empty (the description says the last bin; but were it empty, P would be there where Q is not, the divergence
    infinite, and one far outlier could keep the whole range). Q spreads the sum of each of ``levels`` groups of bins
    (group j is ``floor(j*i/levels) .. floor((j+1)*i/levels)``) evenly over the bins of the group that are not empty.
    Both are normalized and ``sum(P * ln(P/Q))`` is returned; it is infinite where all of ``counts[:i]`` is empty.

    With h the counts, N their sum, M their sum below i, o = N - M, L the last filled bin below i and, per group, S its
    sum and c the number of its filled bins (group J holds L)::

        KL = [sum_{k<L} h_k ln h_k + (h_L + o) ln(h_L + o) - sum_j S_j ln(S_j / c_j) - o ln(S_J / c_J)] / N + ln(M / N)

    where every sum over bins is a difference of two cumulative sums.
    Source of the method: S. Migacz, "8-bit Inference with TensorRT", GTC 2017.
    """
    bins = len(counts)
    size = 1 << (bins - 1).bit_length()  # so that few sizes of the cached table of groups occur
    h = np.zeros(size)
    h[:bins] = counts
    sums = np.concatenate(([0.0], np.cumsum(h)))
    filled = np.concatenate(([0.0], np.cumsum(h > 0)))
    terms = np.concatenate(([0.0], np.cumsum(_x_log_x(h))))
    # A group is (width, start), and all candidates together have few of them: S ln(S / c) is computed once for each.
    ends = np.minimum(np.arange(size) + np.arange(-(-size // levels) + 1)[:, None], size)
    group_sum = sums[ends] - sums[:-1]
    share = group_sum / np.maximum(filled[ends] - filled[:-1], 1.0)
    log_share = np.log(share, out=np.zeros_like(share), where=share > 0)
    stop = np.arange(levels, bins + 1)
    groups = _groups(size, levels)[: len(stop)]
    within = np.take(group_sum * log_share, groups).sum(axis=1)
    inside, total = sums[stop], sums[bins]
    outside = total - inside
    last = np.maximum.accumulate(np.where(h > 0, np.arange(size), 0))[stop - 1]
    last_group = -(-(last + 1) * levels // stop) - 1
    last_log_share = log_share.ravel()[groups[np.arange(len(stop)), last_group]]
    with np.errstate(divide="ignore"):
        divergence: npt.NDArray[np.float64] = (
            terms[last] + _x_log_x(h[last] + outside) - within - outside * last_log_share
        ) / total - np.log(total / inside)
    divergence[inside == 0] = np.inf
    return divergence


def entropy2_threshold(counts: npt.NDArray[np.int64], width: float, amax: float, levels: int = LEVELS) -> float:
    """The threshold of least Kullback-Leibler divergence, for a histogram of ``|x|`` with bins of ``width``.

    The first bin is given the count of the second: zero is represented exactly whatever the scale, so the many exact
    zeros behind a ReLU must not decide. Among equal divergences the largest threshold wins. The answer is the upper
    edge of the chosen last bin, at most ``amax``, the largest magnitude seen; it is ``amax`` itself where there is no
    choice (no more than ``levels`` bins in use, as for a constant or all-zero tensor).
    Source: ``_compute_amax_entropy`` in NVIDIA/TensorRT, tools/pytorch-quantization (group edges rounded down here).
    """
    if len(counts) <= levels:
        return amax
    counts = counts.copy()
    counts[0] = counts[1]
    divergence = entropy_divergences(counts, levels)
    return min((levels + _last_least(divergence)) * width, amax)


def merged_divergences(
    counts: npt.NDArray[np.int64], stops: npt.NDArray[np.intp], levels: int = LEVELS, eps: float = 0.0
) -> npt.NDArray[np.float64]:
    """Kullback-Leibler divergence of clipping after ``i`` bins for each ``i`` in ``stops``, with groups of equal width.

    ``counts`` has shape (bins,), ``stops`` (n,) with values in ``levels..bins``; the answer is (n,), in nats.
    As ``entropy_divergences``, but all groups have ``i // levels`` bins, the last one also what is left over, and
    everything beyond ``i`` is added to bin ``i - 1`` in any case, which then counts as filled. Where the last group
    holds nothing of its own, the divergence is infinite.

    With ``eps`` above 0, P and Q (which sum to 1) are smoothed: each gets ``eps`` in its z empty bins, and
    ``eps z / n`` less in its n others. As ``eps`` is minute, its effect is taken to the first order.
    Source: the example of S. Migacz, "8-bit Inference with TensorRT", GTC 2017, and its many public implementations;
    the smoothing: ``SmoothDistribution`` in apache/tvm, src/relay/quantize/calibrate.cc.
    """
    h = counts.astype(np.float64)
    sums = np.concatenate(([0.0], np.cumsum(h)))
    filled = np.concatenate(([0.0], np.cumsum(h > 0)))
    terms = np.concatenate(([0.0], np.cumsum(_x_log_x(h))))
    total = sums[-1]
    widths = np.arange(1, int(stops.max()) // levels + 1)
    starts = widths[:, None] * np.arange(levels)
    first_filled = np.diff(filled[starts], axis=1)
    first_shares = _share(np.diff(sums[starts], axis=1), first_filled)
    first_logs = first_filled * _log(first_shares)
    width = stops // levels
    inside, last_start = sums[stops], width * (levels - 1)
    outside = total - inside
    log_total = _log(_share(np.full_like(inside, total), inside))  # of P's sum in Q's
    last_sum = inside - sums[last_start]
    last_filled = filled[stops] - filled[last_start] + ((outside > 0) & (h[stops - 1] == 0))
    last_p = h[stops - 1] + outside
    lone = (outside > 0) & (last_sum == 0)
    last_log = np.where(lone, _log(eps * inside), _log(_share(last_sum, last_filled)))
    divergence: npt.NDArray[np.float64] = (
        terms[stops - 1]
        + _x_log_x(last_p)
        - (first_shares * first_logs).sum(axis=1)[width - 1]
        - (last_sum + outside) * last_log
    ) / total - log_total
    if not eps:
        divergence[lone] = np.inf
        return divergence
    # A bin of P loses d_p, a bin of Q d_q: to the first order P ln(P/Q) changes by d_q P/Q - d_p (1 + ln(P/Q)).
    p_filled = filled[last_start] + last_filled
    q_filled = p_filled - lone
    d_p = eps * (stops - p_filled) / p_filled
    d_q = eps * (stops - q_filled) / np.maximum(q_filled, 1.0)
    logs = np.concatenate(([0.0], np.cumsum(_log(h))))
    log_ratios = (
        logs[stops - 1]
        + _log(last_p)
        - first_logs.sum(axis=1)[width - 1]
        - last_filled * last_log
        - p_filled * log_total
    )
    ratios = inside / total * (filled[last_start] + last_filled * _share(last_sum + outside, last_sum))
    divergence += d_q * ratios - d_p * (p_filled + log_ratios)
    divergence[inside == 0] = -np.log(eps)
    return divergence


def entropy_threshold(counts: npt.NDArray[np.int64], width: float, amax: float, levels: int = LEVELS) -> float:
    """The threshold of least ``merged_divergences``, for a histogram of ``|x|`` with bins of ``width``.

    The first bin, where the zeros are, is left out. Among equal divergences the smallest threshold wins; the answer is
    the middle of the bin after the chosen ones, at most ``amax``, and ``amax`` itself where there is no choice.
    """
    counts = counts.copy()
    counts[0] = 0
    if len(counts) <= levels or not counts.any():
        return amax
    divergence = merged_divergences(counts, np.arange(levels, len(counts) + 1), levels)
    return min((levels + _first_least(divergence) + 0.5) * width, amax)


def horizon_kl_threshold(counts: npt.NDArray[np.int64], width: float, amax: float) -> float:
    """The threshold that Horizon's hb_mapper chooses with ``calibration_type: kl``, in the unit of ``width``.

    The histogram ``counts``, of shape (bins,), has bins of ``width``, the largest magnitude of the first batch over
    1024. With the first bin cleared, ``merged_divergences`` is taken at each stop from 128 on that is short of the
    whole histogram, rounded down to millionths, and averaged over every 9 neighbouring stops. The first least average
    wins, and the threshold is the middle of the bin at its middle stop: (i + 4.5) * width for the stops i to i + 8, at
    most ``amax``. Where no average is below the divergence of stop 128 itself, it is the middle of bin 128. When
    everything lies in the last bin, as for a constant tensor, no stop says anything, and it is the middle of the ninth
    bin from the end.

    The rule was found from some thousand histograms given to the calibrating operator of version 1.24.3. It works in
    float32 (the averages are doubles, and the least one so far is kept as float32); here all but that is in doubles.
    How often the answer is the operator's: see "default and mix" in docs/calibration.md.
    """
    counts = counts.copy()
    counts[0] = 0
    if len(counts) < LEVELS + _SMOOTHED or not counts.any():
        return amax
    if not counts[:-1].any():
        return min((len(counts) - _SMOOTHED + 0.5) * width, amax)
    divergence = merged_divergences(counts, np.arange(LEVELS, len(counts)), eps=_EPS)
    whole = (np.floor((divergence + _TIE) / _GRAIN) * _GRAIN).astype(np.float32)
    averages = np.lib.stride_tricks.sliding_window_view(whole.astype(np.float64), _SMOOTHED).mean(axis=1)
    # An average wins when below the float32 of the best so far: the first at the least float32, or the last below it.
    singles = averages.astype(np.float32)
    least, first_stop = singles.min(), np.float32(divergence[0])
    winners = np.flatnonzero(averages < least)[-1:]
    if not winners.size and least < first_stop:
        winners = np.flatnonzero(singles == least)[:1]
    middle = LEVELS + int(winners[0]) + _SMOOTHED // 2 if winners.size and least <= first_stop else LEVELS
    return min((middle + 0.5) * width, amax)


def mse_threshold(counts: npt.NDArray[np.int64], width: float, amax: float, levels: int = LEVELS) -> float:
    """The threshold of least mean squared error between values and their symmetric quantization.

    Every value counts as the middle of its bin; a threshold t quantizes x to ``s * min(round(x/s), levels - 1)`` with
    ``s = t / (levels - 1)``. The candidates are the upper edges of bins ``levels..len(counts)``, at most ``amax``;
    among equal errors the largest wins. With x the middles, c the counts and e_q the first bin rounded to level q::

        error = sum c x^2 - 2 s sum_q q C1_q + s^2 sum_q q^2 C0_q,    C0, C1: sums of c and c x per level

    and sums over levels turn into sums of the cumulative C0, C1 at the e_q.
    Source of the method: ``_compute_amax_mse`` in NVIDIA/TensorRT, tools/pytorch-quantization.
    """
    bins = len(counts)
    if bins <= levels:
        return amax
    top = levels - 1
    candidates = np.arange(levels, bins + 1)
    middles = np.arange(bins) + 0.5  # in bins; width scales all errors alike
    zeroth = np.concatenate(([0.0], np.cumsum(counts, dtype=np.float64)))
    first = np.concatenate(([0.0], np.cumsum(counts * middles)))
    edges = _level_edges(1 << (bins - 1).bit_length(), levels)[: len(candidates)]
    edges = np.minimum(edges, bins)
    level = np.arange(1, levels, dtype=np.float64)
    step = candidates / top
    linear = top * first[-1] - first[edges].sum(axis=1)
    square = top**2 * zeroth[-1] - zeroth[edges] @ (2 * level - 1)
    error = step * (step * square - 2 * linear)  # without sum c x^2, the same for all
    least = error.min()
    slack = 1e-12 * float(counts @ middles**2)
    best = int(np.flatnonzero(error <= least + slack)[-1])
    return min(float(candidates[best]) * width, amax)


def _first_least(scores: npt.NDArray[np.float64]) -> int:
    """The first index whose score is the least, up to rounding."""
    return int(np.flatnonzero(scores <= scores.min() + _TIE)[0])


def _share(sums: npt.NDArray[np.float64], parts: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """``sums / parts``, 0 where there are no parts."""
    return np.divide(sums, parts, out=np.zeros_like(sums), where=parts > 0)


def _log(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The natural logarithm, 0 where there is none."""
    return np.log(x, out=np.zeros_like(x), where=x > 0)


def legacy_threshold(
    counts: npt.NDArray[np.int64], width: float, amax: float, *, percent: float, cutoff: float
) -> float:
    """The region maximum by regression, with a quantile (in percent) and a cutoff (0..1), for a histogram of ``|x|``.

    NVIDIA names the two parameters of TensorRT's legacy calibrator (``IInt8LegacyCalibrator``: "the quantile that will
    be used to select the region maximum", "the fraction of the maximum used to define the regression cutoff"), but not
    the regression. Here: q is the upper edge of the bin that holds ``percentile_index``; a line is fitted by least
    squares through the logarithms of the counts of the filled bins from ``cutoff * q`` on, and the threshold is where
    the line falls below one value per bin, within ``[cutoff * q, amax]``. It is q, at most ``amax``, when fewer than
    two such bins are filled or the line does not fall.
    """
    total = int(counts.sum())
    if total == 0 or width == 0.0:
        return amax
    quantile = int(np.searchsorted(np.cumsum(counts), percentile_index(total, percent), side="right")) + 1
    start = int(cutoff * quantile)
    filled = start + np.flatnonzero(counts[start:])
    fallback = min(quantile * width, amax)
    if len(filled) < 2:
        return fallback
    x, y = filled + 0.5, np.log(counts[filled])
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum())
    if slope >= 0:
        return fallback
    crossing = float(x.mean() - y.mean() / slope)
    return min(max(crossing, cutoff * quantile) * width, amax)


def _last_least(scores: npt.NDArray[np.float64]) -> int:
    """The last index whose score is the least, up to rounding."""
    return int(np.flatnonzero(scores <= scores.min() + _TIE)[-1])


def _x_log_x(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return x * np.log(x, out=np.zeros_like(x), where=x > 0)


@lru_cache(maxsize=4)
def _groups(size: int, levels: int) -> npt.NDArray[np.intp]:
    """For each candidate in ``levels..size`` (rows) and group (columns), ``width * size + start`` of its bins."""
    edges = np.arange(levels + 1) * np.arange(levels, size + 1)[:, None] // levels
    groups: npt.NDArray[np.intp] = np.diff(edges, axis=1) * size + edges[:, :-1]
    return groups


@lru_cache(maxsize=4)
def _level_edges(size: int, levels: int) -> npt.NDArray[np.intp]:
    """For each candidate in ``levels..size`` (rows) the first bin whose middle rounds to level 1, 2, ..., levels - 1.

    Bin k is rounded to level q or more when ``(k + 0.5) / step >= q - 0.5`` with ``step = candidate / (levels - 1)``.
    """
    candidates = np.arange(levels, size + 1)[:, None]
    level = np.arange(1, levels)
    top = levels - 1
    # In integers: k >= ((2q - 1) candidate - top) / (2 top), rounded up.
    edges: npt.NDArray[np.intp] = -(-((2 * level - 1) * candidates - top) // (2 * top))
    return edges
