"""Calibration: runs samples through a float model and chooses a range for every tensor asked for."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Protocol

import numpy as np
import onnx

import ptqbridge
from ptqbridge.errors import InputError, OptionError
from ptqbridge.quantize.collect import Extremes, Findings, NewCollector, collect, default_workers
from ptqbridge.quantize.histogram import Histogram, Tail
from ptqbridge.quantize.observe import EMPTY, Observation, observe
from ptqbridge.quantize.ranges import Ranges, TensorRange
from ptqbridge.quantize.thresholds import entropy2_threshold, percentile_keep, percentile_threshold

ALGORITHMS = ("max", "percentile", "entropy2")
"""Names accepted for ``algorithm``."""

HORIZON_LEAST_PERCENTILE = 99.5
"""hb_mapper 1.24.3 keeps the top 0.5 % of the values only, so that lower percentiles act as this one (observed)."""


class Samples(Protocol):
    """What calibration reads: sized and iterable; again and again, should a second pass be needed.

    Each item is a mapping from input name to array, or has ``.name`` and ``.arrays``.
    """

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[object]: ...


def calibrate(
    proto: onnx.ModelProto,
    tensors: Sequence[str],
    samples: Samples,
    *,
    algorithm: str,
    percentile: float = 99.99,
    bins: int = 2048,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
    model_fingerprint: str = "",
    data_fingerprint: str = "",
    scheme: str = "",
) -> Ranges:
    """Find the ranges of ``tensors`` over ``samples`` with ``algorithm``, the same for any number of ``workers``.

    ``max`` takes all values seen. ``percentile`` clips at the magnitude with ascending index ``floor(p/100 * n)`` of
    all n values (``percentile``, 0..100; at least 99.5 acts for ``scheme="horizon"``, as in hb_mapper). ``entropy2``
    clips where a histogram of magnitudes with ``bins`` bins (a power of two) over ``[0, R)``, R the power of two above
    the largest magnitude, loses the least information. The clipped range is ``[max(min, -t), min(max, t)]``.

    A tensor that only rearranges another one's elements shares its range; tensors that hold no floats are named in
    ``details["left_out"]``. ``progress`` is called, from worker threads, with the number of samples done in this pass.

    Memory: the model, one sample's observed tensors per worker, and per tensor either nothing, a histogram, or the
    values above the percentile; none of it but the last grows with the number of samples.

    Raises ``OptionError`` for a wrong algorithm, percentile or bins and ``InputError`` for a tensor that the model
    lacks, no samples, NaN or infinity (naming sample and tensor), or a sample that the model cannot take.
    """
    _check_options(algorithm, percentile, bins)
    effective = max(percentile, HORIZON_LEAST_PERCENTILE) if scheme == "horizon" else percentile
    crew = workers or default_workers()
    observation = observe(proto, tensors, values=algorithm != "max")
    method = _method(algorithm, effective, bins, len(samples))
    findings = collect(observation, samples, workers=crew, new_collector=method.new_collector, progress=progress)
    if findings.samples == 0:
        raise InputError("calibration: expected at least one sample, found none")
    if method.wants_another_pass(findings):
        findings = collect(observation, samples, workers=crew, new_collector=method.new_collector, progress=progress)
    found = {name: method.range_of(name, findings) for name in findings.extremes}
    details: dict[str, object] = dict(method.details)
    if algorithm == "percentile" and effective != percentile:
        details["percentile_asked"] = percentile
    shared = {name: source for name, source in observation.sources.items() if name != source}
    if shared:
        details["shared"] = shared
    if observation.left_out:
        details["left_out"] = dict(observation.left_out)
    return Ranges(
        method=algorithm,
        scheme=scheme,
        samples=findings.samples,
        data_fingerprint=data_fingerprint,
        model_fingerprint=model_fingerprint,
        versions=_versions(),
        tensors=MappingProxyType(_all_ranges(observation, found)),
        details=MappingProxyType(details),
    )


def _method(algorithm: str, percentile: float, bins: int, samples: int) -> _Method:
    if algorithm == "percentile":
        return _Percentile(percentile, samples)
    return _Entropy2(bins) if algorithm == "entropy2" else _Max()


class _Method(Protocol):
    """How one algorithm keeps values and turns them into a range."""

    new_collector: NewCollector | None
    details: dict[str, object]

    def wants_another_pass(self, findings: Findings) -> bool: ...

    def range_of(self, name: str, findings: Findings) -> TensorRange: ...


class _Max:
    new_collector: NewCollector | None = None

    def __init__(self) -> None:
        self.details: dict[str, object] = {}

    def wants_another_pass(self, findings: Findings) -> bool:
        return False

    def range_of(self, name: str, findings: Findings) -> TensorRange:
        extremes = findings.extremes[name]
        return TensorRange(extremes.low, extremes.high, "max")


class _Percentile:
    def __init__(self, percent: float, samples: int) -> None:
        self.details: dict[str, object] = {"percentile": percent}
        self.new_collector: NewCollector | None = self._new
        self._percent = percent
        self._samples = samples
        self._counts: dict[str, int] = {}

    def _new(self, name: str, size: int, scratch: object) -> Tail:
        return Tail(percentile_keep(self._counts.get(name, size * self._samples), self._percent))

    def wants_another_pass(self, findings: Findings) -> bool:
        """Samples of varying size can make more values necessary than the first sample let expect."""
        self._counts = {name: tail.count for name, tail in findings.collectors.items()}
        return any(percentile_keep(tail.count, self._percent) > tail.keep for tail in findings.collectors.values())

    def range_of(self, name: str, findings: Findings) -> TensorRange:
        return _clip(
            findings.extremes[name], percentile_threshold(findings.collectors[name], self._percent), "percentile"
        )


class _Entropy2:
    def __init__(self, bins: int) -> None:
        self.details: dict[str, object] = {"bins": bins}
        self.new_collector: NewCollector | None = lambda name, size, scratch: Histogram(bins, scratch)

    def wants_another_pass(self, findings: Findings) -> bool:
        return False

    def range_of(self, name: str, findings: Findings) -> TensorRange:
        extremes, histogram = findings.extremes[name], findings.collectors[name]
        amax = max(-extremes.low, extremes.high)
        return _clip(extremes, entropy2_threshold(histogram.used, histogram.width, amax), "entropy2")


def _clip(extremes: Extremes, threshold: float, method: str) -> TensorRange:
    """The extremes within ``[-threshold, threshold]``, both sides even where all values lie beyond on one of them."""
    low = min(max(extremes.low, -threshold), threshold)
    high = max(min(extremes.high, threshold), -threshold)
    return TensorRange(low, high, method)


def _all_ranges(observation: Observation, found: Mapping[str, TensorRange]) -> dict[str, TensorRange]:
    """Ranges in the order asked for; aliases get that of their source."""
    ranges = {}
    for name, source in observation.sources.items():
        if source in found:
            ranges[name] = found[source]
        elif source in observation.constants:
            ranges[name] = observation.constants[source]
        else:
            ranges[name] = EMPTY  # no sample gave it any element
    return ranges


def _check_options(algorithm: str, percentile: float, bins: int) -> None:
    if algorithm not in ALGORITHMS:
        raise OptionError(f"calibration algorithm: expected one of {', '.join(ALGORITHMS)}; found {algorithm!r}")
    if not 0 < percentile <= 100:
        raise OptionError(f"calibration percentile: expected a number above 0 and up to 100, found {percentile}")
    if bins < 256 or bins & (bins - 1):
        raise OptionError(f"calibration bins: expected a power of two from 256 on, found {bins}")


def _versions() -> dict[str, str]:
    import onnxruntime

    return {
        "ptqbridge": ptqbridge.__version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "onnx": onnx.__version__,
        "onnxruntime": onnxruntime.__version__,
    }
