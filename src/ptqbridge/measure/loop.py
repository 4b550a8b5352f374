"""The timing loop of trtexec, for any engine that can be queried through a `Stream`.

Semantics after NVIDIA/TensorRT samples/common/sampleInference.cpp, v8.6.1 (``inferenceLoop``, ``runInference``).
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from struct import pack, unpack
from threading import Condition, Event, Thread
from typing import Protocol

ENDLESS_WARNING = "--duration=-1 is specified, inference will run in an endless loop until aborted with CTRL-C (SIGINT)"
_WAKE_S = 0.5
"""How often the waiting thread wakes, so that Ctrl-C is seen on platforms where it does not end a wait."""


class Stream(Protocol):
    """One inference stream: it owns its buffers and records the times of its own queries.

    All methods are called from one thread, the one that works this stream.
    """

    def begin(self, zero_ns: int) -> None:
        """Called once before the first query with the zero point of all times (host clock, nanoseconds)."""

    def enqueue(self) -> None:
        """Start one query on the next slot; a synchronous engine completes it here."""

    def sync(self) -> float | None:
        """Wait for the query of the previous slot and record it.

        Returns its compute start in milliseconds after the zero point, or None when nothing was in flight there.
        """

    def drain(self) -> None:
        """Wait for and record all that is still in flight."""


@dataclass(frozen=True)
class LoopPolicy:
    """How long to measure. An iteration is one query per stream.

    Measuring goes on until at least ``iterations`` iterations AND ``duration_s`` seconds have passed after
    ``warmup_ms`` milliseconds of warm-up. ``idle_ms`` is slept after each iteration past the warm-up, ``sleep_ms``
    once before the zero point. With ``threads`` each stream has a thread of its own, and the policy holds per thread.
    """

    iterations: int = 10
    duration_s: float = 3.0
    warmup_ms: float = 200.0
    idle_ms: float = 0.0
    sleep_ms: float = 0.0
    threads: bool = False

    @property
    def total_ms(self) -> float:
        """Shortest running time, warm-up included, computed in float32 as trtexec does; -1 stands for endless."""
        if self.duration_s == -1:
            return -1.0
        return _float32(_float32(_float32(self.duration_s) * 1000) + _float32(self.warmup_ms))

    @property
    def endless(self) -> bool:
        """Whether only Ctrl-C ends the loop. So it is for duration 0 with warm-up -1 too: trtexec tests the sum."""
        return self.total_ms == -1


@dataclass(frozen=True)
class LoopResult:
    """What the loop did. The times are in the streams.

    ``iterations`` counts all passes, ``skipped`` those among them that the loop took for warm-up (both summed over
    threads); ``interrupted`` tells that an endless loop was ended.
    """

    iterations: int
    skipped: int
    interrupted: bool = False


def run_loop(
    streams: Sequence[Stream],
    policy: LoopPolicy,
    *,
    zero: Callable[[], int] = time.perf_counter_ns,
    stop_event: Event | None = None,
    attach: Callable[[], AbstractContextManager[object]] = nullcontext,
    sleep: Callable[[float], None] = time.sleep,
) -> LoopResult:
    """Query all ``streams`` as ``policy`` says and return when all their queries are recorded.

    The work is done on one thread, or one per stream, never on the calling one: so Ctrl-C cannot strike between two
    stamps of a query. It ends every loop after the query at hand. An endless loop then returns what was measured;
    any other raises ``KeyboardInterrupt``.

    Args:
        zero: takes the zero point of all times, once, after ``sleep_ms``; returns it in host clock nanoseconds.
        stop_event: set it to end all loops after the query at hand, as Ctrl-C does but without an exception.
        attach: makes the context each working thread needs (a device's, say).
        sleep: waits the given seconds.

    Raises:
        Whatever a stream raised first; the other threads have stopped by then.
    """
    stop = stop_event or Event()
    if policy.sleep_ms > 0:
        sleep(policy.sleep_ms / 1000)
    zero_ns = zero()
    groups: list[Sequence[Stream]] = [[stream] for stream in streams] if policy.threads else [streams]
    failures: list[BaseException] = []
    counts: list[tuple[int, int]] = []
    crew = _Crew(len(groups))

    def work(group: Sequence[Stream]) -> None:
        with crew.working():
            try:
                with attach():
                    counts.append(_work(group, policy, zero_ns, stop.is_set, sleep))
            except BaseException as error:
                failures.append(error)
                stop.set()

    interrupted = False
    try:
        for number, group in enumerate(groups):
            Thread(target=work, args=(group,), name=f"stream-{number}", daemon=True).start()
        crew.wait_for_all()
    except KeyboardInterrupt:
        interrupted = True
        stop.set()
        crew.wait_for_running()  # a second Ctrl-C gives up waiting
    if failures:
        raise failures[0]
    if interrupted and not policy.endless:
        raise KeyboardInterrupt
    return LoopResult(
        iterations=sum(done for done, _ in counts),
        skipped=sum(skipped for _, skipped in counts),
        interrupted=interrupted or (policy.endless and stop.is_set()),
    )


class _Crew:
    """Waits for working threads, safely interruptible.

    ``Thread.join`` will not do: in Python 3.10 and 3.11 a thread whose join was interrupted counts as dead while it
    still runs (CPython bpo-46726).
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._running = 0
        self._ended = 0
        self._changed = Condition()

    @contextmanager
    def working(self) -> Iterator[None]:
        """Put around the work of one thread."""
        with self._changed:
            self._running += 1
        try:
            yield
        finally:
            with self._changed:
                self._ended += 1
                self._changed.notify_all()

    def wait_for_all(self) -> None:
        self._wait(lambda: self._ended >= self._size)

    def wait_for_running(self) -> None:
        """Wait for those that have begun; one that has not will find that it shall stop."""
        self._wait(lambda: self._ended >= self._running)

    def _wait(self, over: Callable[[], bool]) -> None:
        with self._changed:
            while not over():
                self._changed.wait(_WAKE_S)


def _work(
    streams: Sequence[Stream],
    policy: LoopPolicy,
    zero_ns: int,
    stopped: Callable[[], bool],
    sleep: Callable[[float], None],
) -> tuple[int, int]:
    """The loop of one thread. Returns the passes made and how many of them were warm-up."""
    for stream in streams:
        stream.begin(zero_ns)
    enqueues = [stream.enqueue for stream in streams]
    syncs = [stream.sync for stream in streams]
    warmup_ms, idle_s, total_ms = policy.warmup_ms, policy.idle_ms / 1000, policy.total_ms
    if policy.endless:
        total_ms = math.inf
    elif not total_ms > 0:  # no time asked for; nan counts as none
        total_ms = -1.0
    wanted = policy.iterations  # grows by each warm-up pass
    elapsed = -1.0  # until a query is complete: a double-buffered stream has none in its first pass
    passes = 0
    while passes < wanted or elapsed < total_ms:
        if stopped():
            break
        for enqueue in enqueues:
            enqueue()
        for sync in syncs:
            start = sync()
            if start is not None and start > elapsed:
                elapsed = start
        passes += 1
        if elapsed < warmup_ms:
            if elapsed >= 0:
                wanted += 1
        elif idle_s > 0:
            sleep(idle_s)
    for stream in streams:
        stream.drain()
    return passes, wanted - policy.iterations


def _float32(value: float) -> float:
    """``value`` rounded to float32 (without NumPy: this runs before anything heavy is imported)."""
    try:
        return float(unpack("f", pack("f", value))[0])
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


@contextmanager
def collector_off() -> Iterator[None]:
    """No garbage collection inside: its pauses would land in single queries, and a capture must free no memory."""
    was_on = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
