"""The calibration algorithms by name: what each keeps of a tensor, and how it turns that into a range."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from ptqbridge.quantize.collect import Extremes, Findings
from ptqbridge.quantize.histogram import Both, Collector, Histogram, Scratch, SteppedHistogram, Tail
from ptqbridge.quantize.ranges import TensorRange
from ptqbridge.quantize.thresholds import (
    entropy2_threshold,
    entropy_threshold,
    horizon_kl_threshold,
    mse_threshold,
    percentile_keep,
    percentile_threshold,
)

Threshold = Callable[[npt.NDArray[np.int64], float, float], float]

HISTOGRAM_THRESHOLDS: Mapping[str, Threshold] = {
    "entropy2": entropy2_threshold,
    "entropy": entropy_threshold,
    "mse": mse_threshold,
}

SEARCHES = ("default", "mix")
"""Algorithms that choose among the ranges of others; see ``search``."""

ALGORITHMS = ("max", "minmax", "percentile", *HISTOGRAM_THRESHOLDS, "legacy", "kl", *SEARCHES)
"""Names of the algorithms. ``minmax`` finds what ``max`` finds; an asymmetric scheme is free to use both ends."""

KL_BATCH = 8
"""Samples in hb_mapper's first calibration batch, whose largest magnitude sets the width of the bins of ``kl``."""

BatchPeaks = Callable[[Sequence[str]], Iterable[Mapping[str, float]]]
"""Looks at all samples again: of each batch, the largest magnitude of each tensor named."""

_KL_BINS = 1024
_KL_MOST_BINS = 16384


class Method(Protocol):
    """One algorithm at work on one model. ``details`` are the parameters worth recording, as JSON values."""

    name: str
    details: dict[str, object]

    @property
    def sees_values(self) -> bool:
        """Whether ``collector`` is wanted; else extremes are enough."""

    def collector(self, tensor: str, size: int, scratch: Scratch) -> Collector:
        """What keeps the values of ``tensor``, which has ``size`` elements in the first sample."""

    def wants_another_pass(self, findings: Findings) -> bool:
        """Whether the samples must be seen again, with new collectors, for an exact answer."""

    def range_of(self, tensor: str, findings: Findings) -> TensorRange:
        """The range of ``tensor`` after everything was seen; in a search, that of its first candidate."""

    def ranges_of(self, tensor: str, findings: Findings) -> dict[str, TensorRange]:
        """The range of ``tensor`` under its name; in a search, that of each candidate under ``CANDIDATE:NAME``."""


class _One(ABC):
    """A method with one answer."""

    @abstractmethod
    def range_of(self, tensor: str, findings: Findings) -> TensorRange:
        """See ``Method``."""

    def ranges_of(self, tensor: str, findings: Findings) -> dict[str, TensorRange]:
        return {tensor: self.range_of(tensor, findings)}


class Max(_One):
    """All values."""

    sees_values = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.details: dict[str, object] = {}

    def collector(self, tensor: str, size: int, scratch: Scratch) -> Collector:
        raise TypeError(f"{self.name} keeps no values")

    def wants_another_pass(self, findings: Findings) -> bool:
        return False

    def range_of(self, tensor: str, findings: Findings) -> TensorRange:
        extremes = findings.extremes[tensor]
        return TensorRange(extremes.low, extremes.high, self.name)


class Percentile(_One):
    """Clips at a quantile of the magnitudes, found exactly from the largest of them."""

    sees_values = True

    def __init__(self, name: str, percent: float, samples: int) -> None:
        self.name = name
        self.details: dict[str, object] = {"percentile": percent}
        self._percent = percent
        self._samples = samples
        self._counts: dict[str, int] = {}

    def collector(self, tensor: str, size: int, scratch: Scratch) -> Tail:
        return Tail(percentile_keep(self._counts.get(tensor, size * self._samples), self._percent), scratch)

    def wants_another_pass(self, findings: Findings) -> bool:
        """Samples of varying size can make more values necessary than the first sample let expect."""
        self._counts = {name: tail.count for name, tail in findings.collectors.items()}
        return any(percentile_keep(tail.count, self._percent) > tail.keep for tail in findings.collectors.values())

    def range_of(self, tensor: str, findings: Findings) -> TensorRange:
        threshold = percentile_threshold(findings.collectors[tensor], self._percent)
        return clipped(findings.extremes[tensor], threshold, self.name)


class HistogramSearch(_One):
    """Clips where ``threshold``, given a histogram's counts, bin width and largest magnitude, says."""

    sees_values = True

    def __init__(self, name: str, bins: int, threshold: Threshold, **details: object) -> None:
        self.name = name
        self.details: dict[str, object] = {"bins": bins, **details}
        self._bins = bins
        self._threshold = threshold

    def collector(self, tensor: str, size: int, scratch: Scratch) -> Histogram:
        return Histogram(self._bins, scratch)

    def wants_another_pass(self, findings: Findings) -> bool:
        return False

    def range_of(self, tensor: str, findings: Findings) -> TensorRange:
        extremes, histogram = findings.extremes[tensor], findings.collectors[tensor]
        threshold = self._threshold(histogram.used, histogram.width, extremes.amax)
        return clipped(extremes, threshold, self.name)


class KlBins(NamedTuple):
    """The bins that hb_mapper's ``kl`` ends with: as wide as ``merged`` of the 1024 that reach up to ``peak``."""

    peak: float
    merged: int = 1

    @property
    def limit(self) -> float:
        """The largest magnitude that they can hold."""
        return self.peak / _KL_BINS * self.merged * _KL_MOST_BINS


def kl_bins(peaks: Iterable[float]) -> KlBins:
    """The bins after batches with these largest magnitudes, as the operator of hb_mapper 1.24.3 was seen to make them.

    The first batch that is not all zero sets the width. When one needs more than 16384 bins, as many bins become one
    as 8192 fits into what it needs.
    """
    bins = KlBins(0.0)
    for peak in peaks:
        if bins.peak == 0.0:
            bins = KlBins(peak)
        elif peak > bins.limit:
            needed = peak / (bins.peak / _KL_BINS * bins.merged)
            bins = KlBins(bins.peak, bins.merged * int(needed // (_KL_MOST_BINS // 2)))
    return bins


class HorizonKl(_One):
    """Clips where hb_mapper's ``kl`` does. ``peaks`` are the largest magnitudes of its first batch, per tensor."""

    name = "kl"
    sees_values = True

    def __init__(self, peaks: Mapping[str, float], batch_peaks: BatchPeaks) -> None:
        self.details: dict[str, object] = {"bins": _KL_BINS, "first_batch": KL_BATCH}
        self._bins = {name: KlBins(peak) for name, peak in peaks.items()}
        self._batch_peaks = batch_peaks

    def collector(self, tensor: str, size: int, scratch: Scratch) -> SteppedHistogram:
        peak, merged = self._bins.get(tensor, KlBins(0.0))
        return SteppedHistogram(peak, _KL_BINS, _KL_MOST_BINS, scratch, merged)

    def wants_another_pass(self, findings: Findings) -> bool:
        """Where the first batch was all zeros, or a later one goes beyond all bins, their width is another one."""
        beyond = [
            name
            for name in findings.collectors
            if findings.extremes[name].amax > self._bins.get(name, KlBins(0.0)).limit
        ]
        if beyond:
            batches = list(self._batch_peaks(beyond))
            self._bins.update({name: kl_bins(batch.get(name, 0.0) for batch in batches) for name in beyond})
        return bool(beyond)

    def range_of(self, tensor: str, findings: Findings) -> TensorRange:
        extremes, histogram = findings.extremes[tensor], findings.collectors[tensor]
        return clipped(extremes, horizon_kl_threshold(histogram.counts, histogram.width, extremes.amax), self.name)


class Candidates:
    """What ``default`` and ``mix`` choose from: hb_mapper's percentile, max and its kl, in one pass."""

    sees_values = True
    PERCENT = 99.995

    def __init__(self, name: str, kl: HorizonKl, samples: int) -> None:
        self.name = name
        self._percentile = Percentile("percentile", self.PERCENT, samples)
        self._max = Max("max")
        self._kl = kl
        self.details: dict[str, object] = {**self._kl.details, **self._percentile.details}

    def collector(self, tensor: str, size: int, scratch: Scratch) -> Both:
        return Both(self._percentile.collector(tensor, size, scratch), self._kl.collector(tensor, size, scratch))

    def wants_another_pass(self, findings: Findings) -> bool:
        values = self._percentile.wants_another_pass(_part(findings, "first"))
        return self._kl.wants_another_pass(_part(findings, "second")) or values

    def range_of(self, tensor: str, findings: Findings) -> TensorRange:
        return self._percentile.range_of(tensor, _part(findings, "first", tensor))

    def ranges_of(self, tensor: str, findings: Findings) -> dict[str, TensorRange]:
        return {
            f"percentile:{tensor}": self.range_of(tensor, findings),
            f"max:{tensor}": self._max.range_of(tensor, findings),
            f"kl:{tensor}": self._kl.range_of(tensor, _part(findings, "second", tensor)),
        }


def _part(findings: Findings, part: str, tensor: str | None = None) -> Findings:
    """``findings`` as if only one of each two collectors had been there; of one tensor when it is named."""
    names = findings.collectors if tensor is None else [tensor]
    collectors = {name: getattr(findings.collectors[name], part) for name in names}
    return Findings(findings.extremes, collectors, findings.samples)


def clipped(extremes: Extremes, threshold: float, method: str) -> TensorRange:
    """The extremes within ``[-threshold, threshold]``, both of them even where all values lie beyond on one side."""
    low = min(max(extremes.low, -threshold), threshold)
    high = max(min(extremes.high, threshold), -threshold)
    return TensorRange(low, high, method)
