"""Runs samples through an observed model on several workers and gathers what each tensor needs."""

from __future__ import annotations

import math
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ptqbridge.errors import InputError, PtqbridgeError
from ptqbridge.model.save import MAPPED_FROM, session_model
from ptqbridge.quantize.histogram import Collector, Histogram, Scratch
from ptqbridge.quantize.kernel import load_kernel
from ptqbridge.quantize.layout import Arrays, Observer, open_observer
from ptqbridge.quantize.memory import give_back
from ptqbridge.quantize.observe import PREFIX, Observation, observe

if TYPE_CHECKING:
    import onnxruntime

NewCollector = Callable[[str, int, Scratch], Collector]
"""Makes the collector of a tensor from its name, its number of elements in the first sample, and a worker's memory."""


@dataclass
class Extremes:
    """The least and greatest value seen so far."""

    low: float = float("inf")
    high: float = float("-inf")

    def add(self, low: float, high: float) -> None:
        """Widen by one sample's extremes."""
        self.low, self.high = min(self.low, low), max(self.high, high)

    @property
    def amax(self) -> float:
        """The largest magnitude seen."""
        return max(-self.low, self.high)


@dataclass
class Findings:
    """What one worker, or all of them together, saw: extremes and collectors per tensor, and the sample count."""

    extremes: dict[str, Extremes] = field(default_factory=dict)
    collectors: dict[str, Any] = field(default_factory=dict)
    samples: int = 0

    def merge(self, other: Findings) -> None:
        """Take over what another worker saw, and its collectors."""
        self.samples += other.samples
        for name, extremes in other.extremes.items():
            self.extremes.setdefault(name, Extremes()).add(extremes.low, extremes.high)
        for name in list(other.collectors):
            collector = other.collectors.pop(name)  # freed at once: all of them together may be large
            if name in self.collectors:
                self.collectors[name].merge(collector)
            else:
                self.collectors[name] = collector


def join(findings: Findings, joined: Mapping[str, Sequence[str]], new: Callable[[], Histogram]) -> None:
    """Add to ``findings`` the extremes and histograms (``new`` makes empty ones) of tensors made of others."""
    for name, parts in joined.items():
        seen = [part for part in parts if part in findings.extremes]  # the others had no elements
        if seen:
            extremes = findings.extremes[name] = Extremes()
            histogram = findings.collectors[name] = new()
            for part in seen:
                extremes.add(findings.extremes[part].low, findings.extremes[part].high)
                histogram.merge(findings.collectors[part])


def default_workers() -> int:
    """As many workers as this process has cores, at most 4: each holds one sample's observed tensors."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(cores, 4)


def open_session(observation: Observation) -> Observer:
    """The observed model on ONNX Runtime's CPU provider, default graph optimization, one thread per run.

    Raises ``InputError`` when ONNX Runtime refuses the model.
    """
    blocked = any(node.op_type == "Conv" for node in observation.proto.graph.node)
    with session_model(observation.proto, mapped_from=MAPPED_FROM) as model:
        if isinstance(model, bytes):
            model += observation.patch
        else:
            with open(model, "ab") as file:
                file.write(observation.patch)
        try:
            observer = open_observer(model, _session_options, observation.fetches, PREFIX, blocked=blocked)
        except Exception as problem:  # ONNX Runtime's own exceptions share no base class
            raise InputError(f"the model cannot be run by ONNX Runtime: {_first_line(problem)}") from problem
    del model
    give_back()
    return observer


def _session_options() -> onnxruntime.SessionOptions:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    options.enable_mem_pattern = False  # a block for all activations per run costs memory, and brings no speed here
    return options


def collect(
    observation: Observation,
    samples: Iterable[object],
    *,
    workers: int,
    new_collector: NewCollector | None = None,
    session: Observer | None = None,
    progress: Callable[[int], None] | None = None,
    start: Findings | None = None,
    save: Callable[[Findings], None] | None = None,
    every: int = 64,
) -> Findings:
    """Run every sample once and return what was seen.

    ``workers`` threads share one session, each running one sample at a time on one thread of its own: on few cores that
    is faster than splitting the operators, and only one sample per worker is ever held. ``new_collector`` makes what
    keeps a tensor's values; without it only extremes are kept. ``session`` is ``open_session(observation)``, should it
    be open already. ``progress`` is called with the number of samples done. ``start`` is what an earlier call saw of
    the first samples, which are skipped then; ``save`` is given everything seen so far after each ``every`` samples,
    when no worker is busy.

    Raises ``InputError`` naming sample and tensor for NaN or infinity, and for a sample the model cannot take. Of
    several bad samples the first is named, whatever the number of workers.
    """
    total = start or Findings()
    session = session or open_session(observation)
    count = max(1, workers)
    crew = [_Worker(session, observation, new_collector) for _ in range(count)]
    rest = islice(samples, total.samples, None)
    while True:
        queue = _Queue(islice(rest, every) if save else rest, total.samples, progress)
        _run(crew, queue)
        for worker in crew:
            total.merge(worker.findings)
            worker.findings = Findings()
        if save is None or queue.given < every:
            return total
        save(total)


def _run(crew: Sequence[_Worker], queue: _Queue) -> None:
    if len(crew) == 1:
        crew[0].work(queue)
    else:
        with ThreadPoolExecutor(len(crew), thread_name_prefix="calibrate") as pool:
            futures = [pool.submit(worker.work, queue) for worker in crew]
            try:
                for future in futures:
                    future.result()
            finally:  # also on Ctrl-C: let nobody start another sample
                queue.close()
    queue.raise_first()


class _Queue:
    """Hands out samples one by one, counts those done and remembers failures by position."""

    def __init__(self, samples: Iterable[object], first: int, progress: Callable[[int], None] | None) -> None:
        self.given = 0
        self._iterator: Iterator[tuple[int, object]] = enumerate(samples, first)
        self._progress = progress
        self._lock = threading.Lock()
        self._failures: dict[int, BaseException] = {}
        self._first = self._done = first
        self._closed = False

    def take(self) -> tuple[int, object] | None:
        with self._lock:
            if self._closed:
                return None
            try:
                item = next(self._iterator, None)
            except BaseException as problem:  # a broken image, say: reported in order, like a failed run
                self._failures[self._first + self.given] = problem
                item = None
            if item is None:
                self._closed = True
                return None
            self.given += 1
            return item

    def done(self) -> None:
        with self._lock:
            self._done += 1
            if self._progress is not None:
                self._progress(self._done)

    def fail(self, position: int, problem: BaseException) -> None:
        with self._lock:
            self._failures[position] = problem
            self._closed = True

    def close(self) -> None:
        with self._lock:
            self._closed = True

    def raise_first(self) -> None:
        if self._failures:
            raise self._failures[min(self._failures)]


class _Worker:
    def __init__(
        self,
        session: Observer,
        observation: Observation,
        new_collector: NewCollector | None,
    ) -> None:
        self.findings = Findings()
        self._scratch = Scratch(load_kernel())
        self._lane = session.lane(observation.fetches)
        self._observation = observation
        self._new_collector = new_collector

    def work(self, queue: _Queue) -> None:
        while (item := queue.take()) is not None:
            position, sample = item
            try:
                arrays: Any = getattr(sample, "arrays", sample)
                self._one(str(getattr(sample, "name", f"sample {position}")), arrays)
            except BaseException as problem:
                queue.fail(position, problem)
                return
            queue.done()

    def _one(self, sample: str, arrays: Arrays) -> None:
        observed = set(self._observation.inputs)
        for name, array in arrays.items():
            if array.dtype.kind == "f":
                self._see(sample, name, array, keep=name in observed)
        try:
            outputs = self._lane.run(arrays)
        except PtqbridgeError:
            raise
        except Exception as problem:
            raise InputError(f"{sample}: the model does not take it: {_first_line(problem)}") from problem
        unhealthy = [name for name, total in self._observation.health.items() if np.isnan(outputs[total]).any()]
        if unhealthy:
            self._name_nan(sample, arrays, unhealthy)
        for watch in self._observation.watches:
            if watch.values:
                self._see(sample, watch.name, outputs[watch.values], never_negative=watch.never_negative)
            else:
                low = 0.0 if watch.never_negative else float(outputs[watch.minimum])
                high = float(outputs[watch.maximum])
                if not low > high:  # as they are for a tensor without elements
                    self._extend(sample, watch.name, low, high)
        self.findings.samples += 1

    def _name_nan(self, sample: str, arrays: Arrays, unhealthy: Sequence[str]) -> None:
        """Raise InputError with the first tensor that holds NaN; do nothing where only a sum overflowed."""
        proto, names = self._observation.proto, {watch.name for watch in self._observation.watches} | {*unhealthy}
        in_order = [name for node in proto.graph.node for name in node.output if name in names]
        whole = observe(proto, in_order, values=True)
        values = open_session(whole).run([watch.values for watch in whole.watches], arrays)
        for watch, array in zip(whole.watches, values, strict=True):
            if np.isnan(array).any():
                raise InputError(f"{sample}: tensor {watch.name!r}: expected finite values, found NaN")

    def _see(
        self, sample: str, name: str, array: npt.NDArray[Any], *, keep: bool = True, never_negative: bool = False
    ) -> None:
        """Look at a tensor on the host: its extremes, and with ``keep`` what the method collects of it."""
        if array.size == 0:
            return
        low = 0.0 if never_negative else None
        values = np.ravel(np.asarray(array, np.float32))
        if not keep or self._new_collector is None:
            found = self._scratch.extremes(values, low)
        else:
            collector = self.findings.collectors.get(name)
            if collector is None:
                collector = self.findings.collectors[name] = self._new_collector(name, values.size, self._scratch)
            found = collector.add(values, low)
        _check_finite(sample, name, *found)
        if keep:
            if array.dtype == np.float64:  # its own, not rounded
                found = float(array.min()), float(array.max())
            self._extend(sample, name, *found)

    def _extend(self, sample: str, name: str, low: float, high: float) -> None:
        _check_finite(sample, name, low, high)
        extremes = self.findings.extremes.get(name)
        if extremes is None:
            extremes = self.findings.extremes[name] = Extremes()
        extremes.add(low + 0.0, high + 0.0)  # no -0.0


def _check_finite(sample: str, name: str, low: float, high: float) -> None:
    if not (math.isfinite(low) and math.isfinite(high)):
        found = "NaN" if math.isnan(low) or math.isnan(high) else "infinity"
        raise InputError(f"{sample}: tensor {name!r}: expected finite values, found {found}")


def _first_line(problem: BaseException) -> str:
    text = str(problem).strip().splitlines()
    return text[0] if text else type(problem).__name__
