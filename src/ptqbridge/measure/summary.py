"""The performance summary: the record of a timing run, its text in trtexec's wording, and its warnings.

Wording and order after NVIDIA/TensorRT samples/common/sampleReporting.cpp, v8.6.1 (``printProlog``, ``printTiming``,
``printEpilog``). NVIDIA's readers of that text (trt-engine-explorer utils/parse_trtexec_log.py, Polygraphy's trtexec
runner) look up single lines: they need ``Throughput`` and ``Latency``, and take any other line as optional. So a line
whose figure does not exist on a target is left out, and the compute time of a target that is no GPU is called
``Compute Time``, not ``GPU Compute Time``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from ptqbridge.measure.statistics import Distribution, describe, samples_wanted, shortest, unsure_percentiles
from ptqbridge.measure.text import number
from ptqbridge.measure.trace import Trace

Measured = Literal["measured here", "vendor estimate", "board"]

ENQUEUE_BOUND = 0.8
"""trtexec warns if the median enqueue time is above this share of the median compute time."""
UNSTABLE_CV = 1.0
"""trtexec 8.6.1 warns if the compute time varies by more than this many percent (2.5 from 10.13.2 on)."""

NO_TIMES_WHEN_PROFILED = (
    "The e2e network timing is not reported since it is inaccurate due to the extra synchronizations when the "
    "profiler is enabled.",
    "To show e2e network timing report, add --separateProfileRun to profile layer timing in a separate run or remove "
    "--dumpProfile to disable the profiler.",
)
"""What stands instead of the summary when the profiler was attached to the only run."""


@dataclass(frozen=True)
class Performance:
    """What a timing run gave. A figure that does not exist is None (null in JSON), never 0.

    Times are milliseconds unless the name says seconds. ``measured`` says how the figures were obtained;
    ``processor`` (``GPU``, ``CPU``, ``BPU``) what computed; ``policy`` the effective measuring policy as plain data.
    """

    queries: int
    warmup_queries: int
    warmup_ms: float
    throughput_qps: float | None
    latency: Distribution | None
    enqueue: Distribution | None
    h2d: Distribution | None
    compute: Distribution | None
    d2h: Distribution | None
    host_walltime_s: float | None
    total_compute_s: float | None
    streams: int = 1
    processor: str = "CPU"
    measured: Measured = "measured here"
    policy: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As JSON. ``unsure_percentiles`` lists the percentiles that had too few samples."""
        distributions = {
            name: None if (value := getattr(self, name)) is None else value.to_dict()
            for name in ("latency", "enqueue", "h2d", "compute", "d2h")
        }
        return {
            "measured": self.measured,
            "processor": self.processor,
            "throughput_qps": shortest(self.throughput_qps),
            **distributions,
            "host_walltime_s": shortest(self.host_walltime_s),
            "total_compute_s": shortest(self.total_compute_s),
            "queries": self.queries,
            "warmup_queries": self.warmup_queries,
            "warmup_ms": self.warmup_ms,
            "streams": self.streams,
            "unsure_percentiles": _unsure(self),
            "policy": dict(self.policy),
            "notes": list(self.notes),
        }


def summarize(
    trace: Trace,
    *,
    warmup_ms: float,
    percentiles: Sequence[float],
    batch: int = 1,
    streams: int = 1,
    processor: str = "CPU",
    measured: Measured = "measured here",
    policy: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> Performance:
    """The record of ``trace`` (all queries, warm-up included, sorted as `merge` gives them).

    ``batch`` multiplies queries (implicit batch only, else 1). A run without a single query after warm-up gives
    a record without figures and says so in its notes.

    Raises:
        ValueError: a percentile is not in [0, 100].
    """
    import numpy as np

    dropped, kept = trace.without_warmup(warmup_ms)
    walltime_ms = kept.walltime_ms()
    compute = describe(kept.durations("compute"), percentiles)
    count = np.float32(batch * len(kept))
    if not len(kept):
        notes = (*notes, f"nothing was measured: no query started after the warm-up of {number(warmup_ms)} ms")
    return Performance(
        queries=len(kept) * batch,
        warmup_queries=dropped * batch,
        warmup_ms=warmup_ms,
        throughput_qps=float(count / np.float32(walltime_ms) * np.float32(1000)) if walltime_ms else None,
        latency=describe(kept.latency(), percentiles),
        enqueue=describe(kept.durations("enqueue"), percentiles),
        h2d=describe(kept.durations("h2d"), percentiles),
        compute=compute,
        d2h=describe(kept.durations("d2h"), percentiles),
        host_walltime_s=None if walltime_ms is None else float(np.float32(walltime_ms) / np.float32(1000)),
        total_compute_s=None if compute is None else _total_seconds(compute.mean, len(kept)),
        streams=streams,
        processor=processor,
        measured=measured,
        policy=dict(policy or {}),
        notes=tuple(notes),
    )


def prolog_lines(performance: Performance) -> list[str]:
    """How many queries were warm-up and how many were measured. The warm-up time is what was asked for."""
    lines = [f"Warmup completed {performance.warmup_queries} queries over {number(performance.warmup_ms)} ms"]
    if performance.host_walltime_s is not None:
        walltime = number(performance.host_walltime_s)
        lines.append(f"Timing trace has {performance.queries} queries over {walltime} s")
    return lines


def average_lines(kept: Trace, avg_runs: int, processor: str = "CPU") -> list[str]:
    """``=== Trace details ===``: means over each full window of ``avg_runs`` consecutive measured queries.

    A last partial window is dropped; ``avg_runs`` below 1 or above the length of the trace gives none.
    """
    import numpy as np

    lines = ["", "=== Trace details ===", f"Trace averages of {avg_runs} runs:"]
    windows = len(kept) // avg_runs if avg_runs > 0 else 0
    if not windows:
        return lines

    def sums(phase: str) -> Any:
        """Float32 sums in query order, one per window; None if the phase does not exist."""
        times = kept.durations(phase)
        if times is None:
            return None
        rows = times[: windows * avg_runs].reshape(windows, avg_runs)
        return np.add.accumulate(rows, axis=1, dtype=np.float32)[:, -1]

    h2d, compute, d2h, enqueue = sums("h2d"), sums("compute"), sums("d2h"), sums("enqueue")
    latency = sum(part for part in (h2d, compute, d2h) if part is not None)
    runs = np.float32(avg_runs)
    label = "GPU latency" if processor == "GPU" else "Compute latency"
    for row in range(windows):
        text = f"Average on {avg_runs} runs - {label}: {number(compute[row] / runs)} ms"
        if h2d is not None or d2h is not None:
            text += f" - Host latency: {number(latency[row] / runs)} ms"
        if enqueue is not None:
            text += f" (enqueue {number(enqueue[row] / runs)} ms)"
        lines.append(text)
    return lines


def summary_lines(performance: Performance) -> list[str]:
    """``=== Performance summary ===``, without the figures that do not exist; starts and ends with an empty line.

    The mark of unsure percentiles and the notes come after the figures on lines of their own, so that a reader of
    ``key: value`` lines meets all figures first.
    """
    compute_name = "GPU Compute Time" if performance.processor == "GPU" else "Compute Time"
    distributions = {
        "Latency": performance.latency,
        "Enqueue Time": performance.enqueue,
        "H2D Latency": performance.h2d,
        compute_name: performance.compute,
        "D2H Latency": performance.d2h,
    }
    seconds = {
        "Total Host Walltime": performance.host_walltime_s,
        f"Total {compute_name}": performance.total_compute_s,
    }
    lines = ["", "=== Performance summary ==="]
    if performance.throughput_qps is not None:
        lines.append(f"Throughput: {number(performance.throughput_qps)} qps")
    lines += [f"{name}: {_figures(value)}" for name, value in distributions.items() if value is not None]
    lines += [f"{name}: {number(value)} s" for name, value in seconds.items() if value is not None]
    if unsure := _unsure(performance):
        wanted = ", ".join(f"percentile({p:g}%) wants {samples_wanted(p)}" for p in unsure)
        lines.append(f"Note: too few samples ({performance.queries}) to be sure of all percentiles: {wanted}")
    if performance.measured != "measured here":
        lines.append(f"Note: figures are not measured here: {performance.measured}")
    lines += [f"Note: {note}" for note in performance.notes]
    return [*lines, ""]


def warning_lines(performance: Performance) -> list[str]:
    """trtexec's warnings about what bounds the throughput and about unstable times, as far as the figures exist."""
    lines: list[str] = []
    compute = performance.compute
    gpu = performance.processor == "GPU"
    name = "GPU Compute" if gpu else "Compute"
    if compute is not None:
        if performance.enqueue is not None and _above(performance.enqueue.median, compute.median, ENQUEUE_BOUND):
            lines.append(f"* Throughput may be bound by Enqueue Time rather than {name}; the device may idle.")
            if gpu:
                lines.append("  --useCudaGraph, if not in use already, may increase the throughput.")
        for copies, what in ((performance.h2d, "host-to-device"), (performance.d2h, "device-to-host")):
            if copies is not None and _above(copies.median, compute.median, or_equal=True):
                lines.append(f"* Throughput may be bound by {what} transfers rather than {name}; the device may idle.")
                lines.append("  --noDataTransfers measures without them.")
        if compute.cv is not None and compute.cv > UNSTABLE_CV:
            lines.append(f"* {name} time is unstable, with coefficient of variance = {number(compute.cv)}%.")
            if gpu:
                lines.append("  Locking the GPU clock frequency or adding --useSpinWait may improve the stability.")
    if performance.streams > 1:
        lines.append(
            "* Multiple inference streams are used. Latencies may not be accurate since inferences may run in "
            'parallel. Please use "Throughput" as the performance metric instead.'
        )
    return lines


def _exceeds(values: Distribution | None, share: float, compute: Distribution, *, or_equals: bool = False) -> bool:
    """Whether the median of ``values`` is above ``share`` of compute's; no where one of them does not exist."""
    if values is None or values.median is None or compute.median is None:
        return False
    limit = share * compute.median
    return values.median > limit or (or_equals and values.median == limit)


def explanation_lines(performance: Performance) -> list[str]:
    """What the metrics mean, for the verbose log; only of those that exist."""
    compute = "GPU Compute Time" if performance.processor == "GPU" else "Compute Time"
    meanings = [
        ("Total Host Walltime", "from the start of the first query after warm-up to the end of the last", True),
        (compute, "time the device computes for one query", True),
        (f"Total {compute}", "sum over all queries; far below the walltime, the device was idle in between", True),
        ("Throughput", "queries per second of walltime", True),
        ("Enqueue Time", "host time to hand over one query", performance.enqueue is not None),
        ("H2D Latency", "time to copy one query's inputs to the device", performance.h2d is not None),
        ("D2H Latency", "time to copy one query's outputs back", performance.d2h is not None),
        ("Latency", "sum of copies and compute of one query; waiting between them is not counted", True),
    ]
    return [
        "",
        "=== Explanations of the performance metrics ===",
        *(f"{name}: {meaning}." for name, meaning, exists in meanings if exists),
    ]


def _figures(values: Distribution) -> str:
    known = {name: getattr(values, name) for name in ("min", "max", "mean", "median")}
    parts = [f"{name} = {number(value)} ms" for name, value in known.items() if value is not None]
    parts += [f"percentile({number(p)}%) = {number(value)} ms" for p, value in values.percentiles]
    return ", ".join(parts)


def _above(value: float | None, other: float | None, share: float = 1.0, *, or_equal: bool = False) -> bool:
    """Whether ``value`` is above ``share`` of ``other``; False when one of them is not known."""
    if value is None or other is None:
        return False
    return value >= share * other if or_equal else value > share * other


def _unsure(performance: Performance) -> list[float]:
    if performance.latency is None:
        return []
    return unsure_percentiles([p for p, _ in performance.latency.percentiles], performance.queries)


def _total_seconds(mean_ms: float, count: int) -> float:
    import numpy as np

    return float(np.float32(mean_ms) * np.float32(count) / np.float32(1000))
