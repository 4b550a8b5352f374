"""Statistics of timings with trtexec's exact float32 rules, and the mark for percentiles from too few samples.

After NVIDIA/TensorRT samples/common/sampleReporting.cpp, v8.6.1 (``findPercentile``, ``findMedian``,
``findCoeffOfVariance``, ``getPerformanceResult``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

CONFIDENCE = 0.99
_NEVER = 1 << 40
_DRIFTS_FROM = 1 << 17
"""Number of values from which a sequential float32 sum is not to be trusted: measured on similar values, it is off by
2e-5 of its size at 100 thousand, 5e-4 at a million and 4e-2 at five million."""


@dataclass(frozen=True)
class Distribution:
    """Statistics of one kind of time, in milliseconds (``cv``: percent). The values are float32 numbers.

    Only ``mean`` is always there: a board's tool tells no median, and not always the extremes; None stands for those.

    ``percentiles`` holds (percentile, value) in the order asked for. ``cv`` is infinite if the mean is 0. A figure that
    whoever measured or estimated does not tell is None.
    """

    min: float | None
    max: float | None
    mean: float
    median: float | None
    percentiles: tuple[tuple[float, float], ...]
    cv: float | None

    def to_dict(self) -> dict[str, Any]:
        """As JSON: numbers in their shortest float32 form, null for what is not finite."""
        figures = {name: shortest(getattr(self, name)) for name in ("min", "max", "mean", "median")}
        ranks = {f"{percentile:g}": shortest(value) for percentile, value in self.percentiles}
        return {**figures, "percentiles": ranks, "cv": shortest(self.cv)}


def percentile_index(percentile: float, count: int) -> int:
    """Index of ``percentile`` (0 to 100) among ``count`` >= 1 ascending values: no interpolation.

    ``max(count - 1 - int((1 - percentile / 100) * count), 0)`` with every operation in float32. That matters: 90 of
    100 gives 89 here, and 90 with the same formula in double.

    Raises:
        ValueError: ``percentile`` is not in [0, 100], or ``count`` is not positive.
    """
    import numpy as np

    if not 0 <= percentile <= 100:
        raise ValueError(f"percentile {percentile:g} is not in [0, 100]")
    if count < 1:
        raise ValueError("a percentile needs at least one value")
    share = np.float32(1) - np.float32(percentile) / np.float32(100)
    return max(count - 1 - int(share * np.float32(count)), 0)


def describe(values: ArrayLike | None, percentiles: Sequence[float] = ()) -> Distribution | None:
    """Statistics of ``values`` (any order, shape (n,), milliseconds); None if there are none.

    The mean is the float32 sum over ascending values divided by n; the median is the middle value or the mean of the
    two middle ones; ``cv`` is sqrt(population variance) / mean * 100, the variance summed in float32 too. Here alone
    we leave trtexec: sums of 131072 values or more are float64, because float32 sums that long are wrong.

    Raises:
        ValueError: a percentile is not in [0, 100].
    """
    import numpy as np

    if values is None:
        return None
    ascending = np.sort(np.asarray(values, dtype=np.float32))
    count = len(ascending)
    if not count:
        return None
    mean = _running_sum(ascending) / np.float32(count)
    middle = count // 2
    median = ascending[middle] if count % 2 else (ascending[middle - 1] + ascending[middle]) / np.float32(2)
    variance = _running_sum(np.square(ascending - mean)) / np.float32(count)
    cv = np.sqrt(variance) / mean * np.float32(100) if mean else np.float32(np.inf)
    ranks = tuple((float(p), float(ascending[percentile_index(p, count)])) for p in percentiles)
    return Distribution(
        min=float(ascending[0]),
        max=float(ascending[-1]),
        mean=float(mean),
        median=float(median),
        percentiles=ranks,
        cv=float(cv),
    )


@lru_cache(maxsize=64)
def samples_wanted(percentile: float) -> int:
    """The fewest samples that make ``percentile`` more than a guess: 64 for 90, 130 for 95, 662 for 99.

    With q = percentile/100 it is the smallest n with ``q**n + n * (1 - q) * q**(n - 1) <= 1 - 0.99``: with 99 %
    confidence at least two of the n samples lie beyond the true percentile. This is the early-stopping criterion of
    MLPerf Inference with one sample allowed beyond (MLCommons inference_policies, inference_rules.adoc "Early
    stopping"; loadgen/early_stopping.cc), which gives the published minima of 64 queries for p90 and 662 for p99.
    Percentiles below 50 are judged by their own, lower tail. 0 and 100 are the samples' own extremes: 1 will do.
    """
    if percentile <= 0 or percentile >= 100:
        return 1
    inside = max(percentile, 100 - percentile) / 100

    def enough(count: int) -> bool:
        beyond = float(inside**count + count * (1 - inside) * inside ** (count - 1))
        return beyond <= 1 - CONFIDENCE + 1e-12

    low, high = 1, 2
    while not enough(high) and high < _NEVER:
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def unsure_percentiles(percentiles: Sequence[float], count: int) -> list[float]:
    """Those of ``percentiles`` that ``count`` samples are too few for, each once, ascending."""
    return sorted({percentile for percentile in percentiles if count < samples_wanted(percentile)})


def shortest(value: float | None) -> float | None:
    """A float32 number with the fewest digits that still give it back (0.1, not 0.10000000149); None if not finite."""
    import numpy as np

    if value is None or not np.isfinite(value):
        return None
    return float(str(np.float32(value)))


def _running_sum(values: Any) -> Any:
    """Sum from first to last in float32, one addition after the other (``numpy.sum`` adds pairwise).

    From `_DRIFTS_FROM` values on the sum is float64, rounded once: trtexec's own sum then drifts visibly.
    """
    import numpy as np

    if len(values) >= _DRIFTS_FROM:
        return np.float32(np.sum(values, dtype=np.float64))
    return np.add.accumulate(values, dtype=np.float32)[-1]
