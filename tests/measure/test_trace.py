"""Trace: durations, latency, walltime, warm-up removal, merging."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ptqbridge.measure.trace import Trace, merge

MakeTrace = Callable[..., Trace]


def test_durations_are_float32_and_latency_is_the_sum_of_parts(full_trace: MakeTrace) -> None:
    trace = full_trace([0, 10], compute=[2, 3])
    compute = trace.durations("compute")
    assert compute is not None and compute.dtype == np.float32 and compute.tolist() == [2, 3]
    assert trace.latency().dtype == np.float32
    assert trace.latency().tolist() == [2.75, 3.75]
    assert trace.durations("enqueue").tolist() == [0.125, 0.125]  # type: ignore[union-attr]


def test_absent_phases_stay_absent(compute_trace: MakeTrace) -> None:
    trace = compute_trace([1, 2], compute=0.5)
    assert trace.durations("h2d") is None and trace.durations("d2h") is None and trace.durations("enqueue") is None
    assert trace.latency().tolist() == [0.5, 0.5]
    assert trace.first_stamps is trace.compute_start and trace.last_stamps is trace.compute_end


def test_durations_stay_exact_late_in_a_long_run(compute_trace: MakeTrace) -> None:
    late = compute_trace([3_600_000.0], compute=0.0625)
    assert late.durations("compute").tolist() == [0.0625]  # type: ignore[union-attr]


def test_walltime_is_from_first_h2d_to_last_d2h(full_trace: MakeTrace) -> None:
    assert full_trace([5, 10, 20]).walltime_ms() == 17.75
    assert full_trace([]).walltime_ms() is None


@pytest.mark.parametrize(
    ("starts", "warmup_ms", "dropped"),
    [
        ([1, 2, 3, 4], 3, 2),
        ([1, 2, 3, 4], 0, 0),
        ([1, 2, 3, 4], -50, 0),
        ([1, 2, 3, 4], 99, 4),
        ([1, 5, 2, 6], 4, 1),  # only what leads is dropped
        ([], 10, 0),
    ],
)
def test_warmup_removal(compute_trace: MakeTrace, starts: list[float], warmup_ms: float, dropped: int) -> None:
    count, kept = compute_trace(starts).without_warmup(warmup_ms)
    assert count == dropped and kept.compute_start.tolist() == starts[dropped:]


def test_warmup_is_judged_by_compute_start_not_by_copy(full_trace: MakeTrace) -> None:
    dropped, kept = full_trace([9.75, 20]).without_warmup(10)  # copied in from 9.75, computed from 10.25
    assert dropped == 0 and len(kept) == 2 and kept.h2d_start is not None


def test_merge_sorts_by_first_device_stamp(full_trace: MakeTrace) -> None:
    one, two = full_trace([0, 4, 8], copy_in=3), full_trace([1, 5], copy_in=0.1)
    merged = merge([one, two])
    assert merged.h2d_start is not None and merged.h2d_start.tolist() == [0, 1, 4, 5, 8]
    assert merged.compute_start.tolist() == pytest.approx([3, 1.1, 7, 5.1, 11])


def test_merge_keeps_only_columns_that_all_have(full_trace: MakeTrace, compute_trace: MakeTrace) -> None:
    merged = merge([full_trace([3]), compute_trace([1])])
    assert merged.h2d_start is None and merged.compute_start.tolist() == [1, 3.5]


def test_merge_of_nothing_is_empty() -> None:
    assert len(merge([])) == 0 and merge([]).latency().tolist() == []


@given(st.lists(st.lists(st.floats(0, 1e6), max_size=20), min_size=1, max_size=4))
def test_merge_loses_no_query(groups: list[list[float]]) -> None:
    traces = [Trace(compute_start=np.array(g, dtype=float), compute_end=np.array(g, dtype=float)) for g in groups]
    assert merge(traces).compute_start.tolist() == sorted(start for group in groups for start in group)
