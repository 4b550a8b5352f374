"""Calibration: runs samples through a float model and chooses a range for every tensor asked for."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from types import MappingProxyType
from typing import Protocol

import numpy as np
import onnx

import ptqbridge
from ptqbridge.errors import InputError, OptionError
from ptqbridge.quantize.collect import collect, default_workers
from ptqbridge.quantize.methods import (
    ALGORITHMS,
    HISTOGRAM_THRESHOLDS,
    KL_BATCH,
    HistogramSearch,
    HorizonKl,
    Max,
    Method,
    Percentile,
)
from ptqbridge.quantize.observe import EMPTY, Observation, observe
from ptqbridge.quantize.ranges import Ranges, TensorRange
from ptqbridge.quantize.sources import GraphFacts

__all__ = ["ALGORITHMS", "Samples", "calibrate"]

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

    ``max`` takes all values seen; ``minmax`` is another name for it. ``percentile`` clips at the magnitude with
    ascending index ``floor(p/100 * n)`` of all n values (``percentile``, 0..100; at least 99.5 acts for
    ``scheme="horizon"``, as in hb_mapper). ``entropy2`` and ``entropy`` clip where a histogram of magnitudes with
    ``bins`` bins (a power of two) over ``[0, R)``, R the power of two above the largest magnitude, loses the least
    information, ``mse`` where rounding and clipping err least. ``kl`` is hb_mapper's; it alone depends on the order of
    samples, since the first 8 set its bins. The formulas are in ``thresholds``. A range clipped at t is
    ``[max(min, -t), min(max, t)]``.

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
    facts = GraphFacts(proto)
    if algorithm == "kl":
        first_batch = observe(proto, tensors, values=False, facts=facts)
        seen = collect(first_batch, islice(samples, KL_BATCH), workers=crew)
        method: Method = HorizonKl({name: extremes.amax for name, extremes in seen.extremes.items()})
    elif algorithm == "percentile":
        method = Percentile(effective, len(samples))
    elif algorithm in HISTOGRAM_THRESHOLDS:
        method = HistogramSearch(algorithm, bins)
    else:
        method = Max(algorithm)
    observation = observe(proto, tensors, values=method.sees_values, facts=facts)
    collector = method.collector if method.sees_values else None
    findings = collect(observation, samples, workers=crew, new_collector=collector, progress=progress)
    if findings.samples == 0:
        raise InputError("calibration: expected at least one sample, found none")
    if method.wants_another_pass(findings):
        findings = collect(observation, samples, workers=crew, new_collector=collector, progress=progress)
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
