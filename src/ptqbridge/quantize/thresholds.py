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


def _last_least(scores: npt.NDArray[np.float64]) -> int:
    """The last index whose score is the least, up to rounding."""
    return int(np.flatnonzero(scores <= scores.min() + _TIE)[-1])


def _x_log_x(x: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    return x * np.log(x, out=np.zeros_like(x), where=x > 0)


@lru_cache(maxsize=4)
def _groups(size: int, levels: int) -> npt.NDArray[np.intp]:
    """For each candidate in ``levels..size`` (rows) and group (columns), ``width * size + start`` of the group's bins."""
    edges = np.arange(levels + 1) * np.arange(levels, size + 1)[:, None] // levels
    groups: npt.NDArray[np.intp] = np.diff(edges, axis=1) * size + edges[:, :-1]
    return groups
