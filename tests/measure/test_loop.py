"""The loop's meaning on a simulated clock: warm-up, iterations, duration, streams, idle time, interruption."""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ptqbridge.measure.loop import LoopPolicy, run_loop
from ptqbridge.measure.sync_stream import SyncStream


class Clock:
    """Simulated milliseconds."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds * 1000


class Device:
    """A stream on a device of its own that computes one query after the other, ``depth`` of them in flight."""

    def __init__(self, clock: Clock, query_ms: float = 10.0, depth: int = 2) -> None:
        self.clock, self.query_ms, self.depth = clock, query_ms, depth
        self.free_at = 0.0
        self.slots: list[tuple[float, float] | None] = [None] * depth
        self.next = 0
        self.starts: list[float] = []
        self.zero_ns: int | None = None

    def begin(self, zero_ns: int) -> None:
        self.zero_ns = zero_ns

    def enqueue(self) -> None:
        start = max(self.clock.now, self.free_at)
        self.free_at = start + self.query_ms
        self.slots[self.next] = (start, self.free_at)
        self.next = (self.next + 1) % self.depth

    def sync(self) -> float | None:
        query = self.slots[self.next]
        if query is None:
            return None
        self.slots[self.next] = None
        start, end = query
        self.clock.now = max(self.clock.now, end)
        self.starts.append(start)
        return start

    def drain(self) -> None:
        for _ in self.slots:
            self.sync()
            self.next = (self.next + 1) % self.depth

    def measured(self, warmup_ms: float) -> int:
        """Queries kept after warm-up removal."""
        kept = [position for position, start in enumerate(sorted(self.starts)) if start >= warmup_ms]
        return len(self.starts) - kept[0] if kept else 0


def run(policy: LoopPolicy, streams: int = 1, depth: int = 2, query_ms: float = 10.0) -> tuple[list[Device], Clock]:
    clock = Clock()
    devices = [Device(clock, query_ms, depth) for _ in range(streams)]
    run_loop(devices, policy, zero=lambda: 0, sleep=clock.sleep)
    return devices, clock


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("warmup_ms", [0, 35, 200])
@pytest.mark.parametrize("duration_s", [0, -2, math.nan])
def test_iterations_are_counted_after_warmup(depth: int, warmup_ms: float, duration_s: float) -> None:
    policy = LoopPolicy(iterations=7, duration_s=duration_s, warmup_ms=warmup_ms)
    (device,), _ = run(policy, depth=depth)
    assert device.measured(warmup_ms) == 7


@pytest.mark.parametrize("depth", [1, 2])
def test_duration_comes_on_top_of_warmup(depth: int) -> None:
    (device,), _ = run(LoopPolicy(iterations=1, duration_s=0.1, warmup_ms=50), depth=depth)
    assert 150 <= max(device.starts) <= 150 + 10 * depth
    assert device.measured(50) == pytest.approx(10, abs=2)


def test_both_conditions_must_be_met() -> None:
    (long,), _ = run(LoopPolicy(iterations=5, duration_s=1, warmup_ms=0))
    (many,), _ = run(LoopPolicy(iterations=500, duration_s=0.1, warmup_ms=0))
    assert len(long.starts) >= 100 and max(long.starts) >= 1000
    assert len(many.starts) == 500


def test_one_iteration_is_one_query_per_stream() -> None:
    devices, _ = run(LoopPolicy(iterations=6, duration_s=0, warmup_ms=0), streams=3)
    assert [len(device.starts) for device in devices] == [6, 6, 6]


def test_nothing_asked_runs_nothing() -> None:
    clock = Clock()
    device = Device(clock)
    policy = LoopPolicy(iterations=0, duration_s=0, warmup_ms=0)
    result = run_loop([device], policy, zero=lambda: 0, sleep=clock.sleep)
    assert device.starts == [] and (result.iterations, result.skipped) == (0, 0)


def test_result_counts_passes_and_warmup() -> None:
    clock = Clock()
    policy = LoopPolicy(iterations=4, duration_s=0, warmup_ms=30)
    result = run_loop([Device(clock, depth=1)], policy, zero=lambda: 0, sleep=clock.sleep)
    assert (result.iterations, result.skipped, result.interrupted) == (7, 3, False)


def test_idle_time_follows_measured_iterations_only() -> None:
    (device,), clock = run(LoopPolicy(iterations=5, duration_s=0, warmup_ms=30, idle_ms=4), depth=1)
    assert clock.slept == [0.004] * 5
    assert device.starts[4] - device.starts[3] == pytest.approx(14)


def test_sleep_time_lies_before_the_zero_point() -> None:
    clock = Clock()
    zeros: list[float] = []

    def zero() -> int:
        zeros.append(clock.now)
        return 12345

    device = Device(clock)
    run_loop([device], LoopPolicy(iterations=1, duration_s=0, warmup_ms=0, sleep_ms=250), zero=zero, sleep=clock.sleep)
    assert zeros == [250.0] and device.zero_ns == 12345


def test_total_time_is_float32_and_minus_one_is_endless() -> None:
    assert LoopPolicy(duration_s=3, warmup_ms=200).total_ms == 3200
    assert LoopPolicy(duration_s=0.1, warmup_ms=0).total_ms == 100.0
    assert LoopPolicy(duration_s=-1).endless
    assert LoopPolicy(duration_s=0, warmup_ms=-1).endless  # trtexec tests the sum, so this is endless there too
    assert not LoopPolicy(duration_s=-2).endless
    assert LoopPolicy(duration_s=1e39).total_ms == math.inf


@pytest.mark.parametrize("threads", [False, True])
def test_an_endless_loop_ends_on_ctrl_c_with_its_result(threads: bool) -> None:
    queries: list[int] = []

    def query() -> None:
        time.sleep(0.0005)
        queries.append(1)
        if len(queries) == 20:
            os.kill(os.getpid(), signal.SIGINT)

    streams = [SyncStream(query), SyncStream(query)]
    result = run_loop(streams, LoopPolicy(duration_s=-1, threads=threads))
    assert result.interrupted and result.iterations >= 10
    assert sum(len(stream.trace()) for stream in streams) == len(queries) < 10_000


def test_ctrl_c_in_a_finite_loop_is_raised_and_stops_the_threads() -> None:
    ended = [0, 0]
    sent: list[int] = []

    def query(number: int) -> None:
        time.sleep(0.002)
        if number == 0 and not sent:
            sent.append(1)
            os.kill(os.getpid(), signal.SIGINT)
        ended[number] += 1

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_loop([SyncStream(lambda: query(0)), SyncStream(lambda: query(1))], LoopPolicy(duration_s=60, threads=True))
    assert time.monotonic() - started < 5
    before = list(ended)
    time.sleep(0.02)
    assert ended == before  # no thread goes on


def test_a_failing_stream_stops_all_and_its_error_comes_out() -> None:
    class Broken(Exception):
        pass

    calls = 0

    def failing() -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise Broken("third")

    other = SyncStream(lambda: time.sleep(0.0005))
    with pytest.raises(Broken, match="third"):
        run_loop([SyncStream(failing), other], LoopPolicy(duration_s=60, threads=True))
    assert len(other.trace()) < 20000


def test_stop_event_ends_the_loop_without_exception() -> None:
    stop = threading.Event()
    stream = SyncStream(stop.set)
    result = run_loop([stream], LoopPolicy(duration_s=60), stop_event=stop)
    assert len(stream.trace()) == 1 and not result.interrupted


def test_every_working_thread_is_attached() -> None:
    entered: list[str] = []

    @contextmanager
    def attach() -> Iterator[None]:
        entered.append(threading.current_thread().name)
        yield

    streams = [SyncStream(lambda: None) for _ in range(3)]
    policy = LoopPolicy(iterations=4, duration_s=0, warmup_ms=0, threads=True)
    result = run_loop(streams, policy, attach=attach)
    assert sorted(entered) == ["stream-0", "stream-1", "stream-2"]
    assert [len(stream.trace()) for stream in streams] == [4, 4, 4] and result.iterations == 12
