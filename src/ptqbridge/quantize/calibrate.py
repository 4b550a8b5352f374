"""Calibration: runs samples through a float model and chooses a range for every tensor asked for."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
import onnx

import ptqbridge
from ptqbridge.errors import InputError, OptionError
from ptqbridge.quantize.checkpoint import Checkpoint, Progress
from ptqbridge.quantize.collect import Findings, collect, default_workers, join, open_session
from ptqbridge.quantize.histogram import Scratch
from ptqbridge.quantize.horizon import calibrates_in_batches, fixed_ranges, shared_ranges
from ptqbridge.quantize.memory import Estimate, estimate, groups_within
from ptqbridge.quantize.methods import (
    ALGORITHMS,
    HISTOGRAM_THRESHOLDS,
    KL_BATCH,
    SEARCHES,
    Candidates,
    HistogramSearch,
    HorizonKl,
    Max,
    Method,
    Percentile,
)
from ptqbridge.quantize.observe import EMPTY, Observation, observe
from ptqbridge.quantize.ranges import Ranges, TensorRange
from ptqbridge.quantize.search import JUDGED, JUDGED_ELSE, Choice, Judge, choose_default, choose_mix, order
from ptqbridge.quantize.sources import KEEPS_RANGE, MOVES, GraphFacts
from ptqbridge.quantize.thresholds import legacy_threshold

__all__ = ["ALGORITHMS", "Samples", "calibrate", "memory_estimate"]

HORIZON_KEEPS = 50.0
"""hb_mapper 1.24.3 keeps the top half of one sample's values only, in percent: lower percentiles act as this one."""


class Samples(Protocol):
    """What calibration reads: sized and iterable; again and again, should a second pass be needed.

    Each item is a mapping from input name to array, or has ``.name`` and ``.arrays``.
    """

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[object]: ...


class _Remembered:
    """``samples`` that know which one was given ``last``."""

    def __init__(self, samples: Samples) -> None:
        self._samples = samples
        self.last: Any = None

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[object]:
        for sample in self._samples:
            self.last = sample
            yield sample


def calibrate(
    proto: onnx.ModelProto,
    tensors: Sequence[str],
    samples: Samples,
    *,
    algorithm: str,
    percentile: float = 99.99,
    bins: int = 2048,
    regression_cutoff: float = 1.0,
    workers: int | None = None,
    memory_cap: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    progress: Callable[[int], None] | None = None,
    model_fingerprint: str = "",
    data_fingerprint: str = "",
    scheme: str = "",
) -> Ranges:
    """Find the ranges of ``tensors`` over ``samples`` with ``algorithm``, the same for any number of ``workers``.

    ``max`` takes all values seen; ``minmax`` is another name for it. ``percentile`` clips at the magnitude with
    ascending index ``floor(p/100 * n)`` of all n values (``percentile``, 0..100; for ``scheme="horizon"`` at least
    100 - 50/samples acts, as in hb_mapper). ``entropy2`` and ``entropy`` clip where a histogram of magnitudes with
    ``bins`` bins (a power of two) over ``[0, R)``, R the power of two above the largest magnitude, loses the least
    information, ``mse`` where rounding and clipping err least. ``kl`` is hb_mapper's; it alone depends on the order of
    samples, since the first 8 set its bins (or the first one, see ``calibrates_in_batches``). ``legacy`` is
    ``percentile`` when ``regression_cutoff`` (0..1) is 1, and a regression over the histogram else. ``default`` and
    ``mix`` choose among percentile 99.995, max and kl by what they do to the outputs (see ``search``); ``details``
    then hold candidates, scores and winner. The formulas are in ``thresholds``. A range clipped at t is
    ``[max(min, -t), min(max, t)]``.

    A tensor that only rearranges another one's elements shares its range; with ``scheme="horizon"`` more tensors share
    one, and some are fixed, as in hb_mapper (see ``horizon``). Tensors that hold no floats are named in
    ``details["left_out"]``. ``progress`` is called, from worker threads, with the number of samples done (when they
    must be seen several times, with that fraction of all of them).

    Memory: the model, one sample's observed tensors per worker, and per tensor either nothing, a histogram, or the
    values above the percentile; none of it but the last grows with the number of samples. With ``memory_cap`` (bytes)
    the tensors are observed in as many groups, one pass over the samples each, as keep the ``memory_estimate`` below.

    ``checkpoint`` names a file in which the state is saved every 64 samples; when it is there already, calibration goes
    on from it. It is removed at the end.

    Raises ``OptionError`` for a wrong algorithm, percentile or bins or a cap that one tensor alone breaks, and
    ``InputError`` for a tensor that the model lacks, no samples, NaN or infinity (naming sample and tensor), a sample
    that the model cannot take, or a checkpoint of another calibration.
    """
    _check_options(algorithm, percentile, bins, regression_cutoff, workers)
    samples = _Remembered(samples)
    crew = workers or default_workers()
    effective = max(percentile, 100 - HORIZON_KEEPS / max(len(samples), 1)) if scheme == "horizon" else percentile
    moves = KEEPS_RANGE if scheme == "horizon" else MOVES
    facts = GraphFacts(proto, _first_shapes(samples) if memory_cap is not None else None, moves)
    session = None
    if algorithm == "kl" or algorithm in SEARCHES:
        first = observe(proto, tensors, values=memory_cap is None, facts=facts)
        session = open_session(first) if memory_cap is None else None
        batch = KL_BATCH if calibrates_in_batches(proto) else 1
        seen = collect(first, islice(samples, batch), workers=crew, session=session)
        peaks = {name: extremes.amax for name, extremes in seen.extremes.items()}
        kl = HorizonKl(peaks, partial(_batch_peaks, proto, facts, samples, batch, crew))
        kl.details["first_batch"] = batch
        method: Method = kl if algorithm == "kl" else Candidates(algorithm, kl, len(samples))
    elif algorithm == "percentile":
        method = Percentile(algorithm, effective, len(samples))
    elif algorithm == "legacy" and regression_cutoff == 1.0:
        method = Percentile(algorithm, percentile, len(samples))
    elif algorithm == "legacy":
        search = partial(legacy_threshold, percent=percentile, cutoff=regression_cutoff)
        method = HistogramSearch(algorithm, bins, search, percentile=percentile, regression_cutoff=regression_cutoff)
    elif algorithm in HISTOGRAM_THRESHOLDS:
        method = HistogramSearch(algorithm, bins, HISTOGRAM_THRESHOLDS[algorithm])
    else:
        method = Max(algorithm)
    # A group of tensors may lack what one is made of, and horizon's sources need not have the same elements.
    joins = isinstance(method, HistogramSearch) and memory_cap is None and moves is MOVES
    observation = observe(proto, tensors, values=method.sees_values, joins=joins, facts=facts)
    groups = None if memory_cap is None else groups_within(memory_cap, observation, facts, crew)
    file = None
    if checkpoint is not None:
        identity = {
            "model": model_fingerprint,
            "data": data_fingerprint,
            "number of samples": len(samples),
            "method": [algorithm, method.details],
            "tensors": list(tensors),
            "split into groups": groups,
        }
        file = Checkpoint(checkpoint, identity)
    count, found = _passes(observation, groups, samples, method, crew, file, progress, facts, session)
    session = None  # its copy of the weights is not needed any more
    if file is not None:
        file.remove()
    details: dict[str, object] = dict(method.details)
    fixed = fixed_ranges(proto) if scheme == "horizon" else {}
    if isinstance(method, Candidates):
        chosen = _search(method, proto, observation, found, samples, scheme, fixed)
        found_ranges = chosen.tensors
        details |= chosen.details
    else:
        found_ranges = _all_ranges(observation, found)
    if algorithm == "percentile" and effective != percentile:
        details["percentile_asked"] = percentile
    shared = {name: source for name, source in observation.sources.items() if name != source}
    if scheme == "horizon":
        found_ranges |= {name: known for name, known in fixed.items() if name in found_ranges}
        for name, root in shared_ranges(proto).items():
            if name in found_ranges and root in found_ranges:
                found_ranges[name], shared[name] = found_ranges[root], root
    if shared:
        details["shared"] = shared
    if observation.left_out:
        details["left_out"] = dict(observation.left_out)
    return Ranges(
        method=algorithm,
        scheme=scheme,
        samples=count,
        data_fingerprint=data_fingerprint,
        model_fingerprint=model_fingerprint,
        versions=_versions(),
        tensors=MappingProxyType(found_ranges),
        details=MappingProxyType(details),
    )


def _batch_peaks(
    proto: onnx.ModelProto, facts: GraphFacts, samples: Samples, batch: int, crew: int, tensors: Sequence[str]
) -> Iterator[dict[str, float]]:
    """See ``BatchPeaks``."""
    observation = observe(proto, tensors, values=False, facts=facts)
    session, rest = open_session(observation), iter(samples)
    while (seen := collect(observation, islice(rest, batch), workers=crew, session=session)).samples:
        yield {name: extremes.amax for name, extremes in seen.extremes.items()}


def _search(
    method: Candidates,
    proto: onnx.ModelProto,
    observation: Observation,
    found: Mapping[str, TensorRange],
    samples: _Remembered,
    scheme: str,
    fixed: Mapping[str, TensorRange],
) -> Choice:
    """The best of the candidates' ranges, judged on the first samples."""
    candidates: dict[str, dict[str, TensorRange]] = {}
    for name in order(scheme, method.name):
        own = {key.partition(":")[2]: value for key, value in found.items() if key.partition(":")[0] == name}
        candidates[name] = _all_ranges(observation, own)
        for tensor, known in fixed.items():
            # While mix compares, hb_mapper fixes the input of a Sigmoid, and its output at the end only.
            if tensor in candidates[name] and (method.name == "default" or known.min < 0):
                candidates[name][tensor] = known
    apart = getattr(samples.last, "arrays", samples.last) if scheme == "horizon" and method.name == "mix" else None
    judged: list[Any] = list(islice(samples, JUDGED.get(scheme, JUDGED_ELSE)))
    judge = Judge(proto, scheme, [getattr(sample, "arrays", sample) for sample in judged], apart)
    return (choose_default if method.name == "default" else choose_mix)(judge, candidates)


def memory_estimate(
    proto: onnx.ModelProto, tensors: Sequence[str], samples: Samples, *, algorithm: str, workers: int | None = None
) -> Estimate:
    """The memory ``calibrate`` will take with the same arguments and no cap, judged by the first sample's shapes."""
    facts = GraphFacts(proto, _first_shapes(samples))
    observation = observe(proto, tensors, values=algorithm not in ("max", "minmax"), facts=facts)
    return estimate(observation, facts, workers or default_workers())


def _passes(
    whole: Observation,
    groups: list[list[str]] | None,
    samples: Samples,
    method: Method,
    crew: int,
    file: Checkpoint | None,
    progress: Callable[[int], None] | None,
    facts: GraphFacts,
    session: Any,
) -> tuple[int, dict[str, TensorRange]]:
    """Every pass over the samples: the number of samples, and the range of each tensor that was seen."""
    state = (file.load(lambda name: method.collector(name, 0, Scratch())) if file else None) or Progress()
    collector = method.collector if method.sees_values else None
    for group in range(state.group, len(groups) if groups else 1):
        if groups is None or len(groups) == 1:
            observation = whole
        else:
            observation = observe(whole.proto, groups[group], values=method.sees_values, facts=facts)
        run = partial(
            collect, observation, samples, workers=crew, new_collector=collector, session=session,
            progress=_share(progress, group, len(groups or "1"), len(samples)),
        )  # fmt: skip
        state.group = group
        findings = run(start=state.findings, save=partial(_save, file, state) if file else None)
        if findings.samples == 0:
            raise InputError("calibration: expected at least one sample, found none")
        if method.wants_another_pass(findings):
            findings = run()
        if isinstance(method, HistogramSearch):
            join(findings, observation.joined, partial(method.collector, "", 0, Scratch()))
        for tensor in findings.extremes:  # on several threads the searches, all small arrays, took twice as long
            state.finished.update(method.ranges_of(tensor, findings))
        count, state.findings = findings.samples, Findings()
    return count, state.finished


def _save(file: Checkpoint, state: Progress, findings: Findings) -> None:
    state.findings = findings
    file.save(state)


def _share(
    progress: Callable[[int], None] | None, group: int, groups: int, samples: int
) -> Callable[[int], None] | None:
    """``progress`` as it looks from one of several passes over the samples."""
    if progress is None or groups == 1:
        return progress
    return lambda done: progress((group * samples + done) // groups)


def _first_shapes(samples: Samples) -> dict[str, tuple[int, ...]]:
    """Shapes of the inputs in the first sample."""
    first: Any = next(iter(samples), None)
    if first is None:
        raise InputError("calibration: expected at least one sample, found none")
    return {name: array.shape for name, array in getattr(first, "arrays", first).items()}


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


def _check_options(algorithm: str, percentile: float, bins: int, regression_cutoff: float, workers: int | None) -> None:
    if algorithm not in ALGORITHMS:
        raise OptionError(f"calibration algorithm: expected one of {', '.join(ALGORITHMS)}; found {algorithm!r}")
    if not 0 < percentile <= 100:
        raise OptionError(f"calibration percentile: expected a number above 0 and up to 100, found {percentile}")
    if workers is not None and workers < 1:
        raise OptionError(f"calibration workers: expected at least 1, found {workers}")
    if not 0 <= regression_cutoff <= 1:
        raise OptionError(f"calibration regression cutoff: expected a number from 0 to 1, found {regression_cutoff}")
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
