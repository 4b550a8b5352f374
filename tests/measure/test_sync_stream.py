"""The stream of synchronous engines: what it records and what it costs."""

from __future__ import annotations

import time

import pytest

from ptqbridge.measure.loop import LoopPolicy, run_loop
from ptqbridge.measure.sync_stream import SyncStream


def test_records_begin_and_end_in_milliseconds_after_zero() -> None:
    ticks = iter([1_000_000, 3_500_000, 4_000_000, 4_250_000])
    stream = SyncStream(lambda: None, clock=lambda: next(ticks))
    stream.begin(500_000)
    assert stream.sync() is None
    stream.enqueue()
    assert stream.sync() == pytest.approx(0.5)
    stream.enqueue()
    stream.drain()
    trace = stream.trace()
    assert trace.compute_start.tolist() == pytest.approx([0.5, 3.5])
    assert trace.compute_end.tolist() == pytest.approx([3.0, 3.75])
    assert trace.h2d_start is None and trace.d2h_end is None and trace.enqueue_start is None


def test_begin_forgets_earlier_queries() -> None:
    stream = SyncStream(lambda: None)
    stream.begin(0)
    stream.enqueue()
    stream.begin(time.perf_counter_ns())
    assert stream.sync() is None and len(stream.trace()) == 0


def test_a_query_that_raises_is_not_recorded() -> None:
    def fail() -> None:
        raise RuntimeError

    stream = SyncStream(fail)
    with pytest.raises(RuntimeError):
        stream.enqueue()
    assert len(stream.trace()) == 0 and stream.sync() is None


def test_the_loop_and_the_warmup_cut_agree_on_what_is_warmup() -> None:
    """sync and trace compute the same doubles, so exactly the asked iterations are kept."""
    now = 7

    def clock() -> int:
        nonlocal now
        now += 333_333
        return now

    for warmup_ms in (0.666666, 1.0, 3.333333, 20.0):
        stream = SyncStream(lambda: None, clock)
        run_loop([stream], LoopPolicy(iterations=9, duration_s=0, warmup_ms=warmup_ms), zero=clock)
        dropped, kept = stream.trace().without_warmup(warmup_ms)
        assert len(kept) == 9 and dropped == len(stream.trace()) - 9


def test_bookkeeping_costs_little_over_the_call() -> None:
    queries = 20_000

    def loop() -> float:
        started = time.perf_counter()
        run_loop([SyncStream(lambda: None)], LoopPolicy(iterations=queries, duration_s=0, warmup_ms=0))
        return (time.perf_counter() - started) / queries * 1e6

    assert min(loop() for _ in range(5)) < 10  # about 1 us; the limit leaves room for a busy machine
