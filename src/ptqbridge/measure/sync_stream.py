"""A timing stream for synchronous engines, whose call returns when the query is complete (ONNX Runtime)."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ptqbridge.measure.trace import Trace


class SyncStream:
    """Records the host clock before and after each call; nothing is ever left in flight.

    Such an engine has no copies to a device and no enqueue apart from the query itself: its trace has the compute
    columns only. 16 bytes are kept per query, and nothing else is made.

    Attributes:
        begin: sets the zero point and forgets earlier queries.
        enqueue: runs one query and records when it began and ended. A query that raises is not recorded.
        sync: compute start of the latest query in ms after the zero point; None before the first.
    """

    __slots__ = ("_times", "_zero_ns", "begin", "enqueue", "sync")

    begin: Callable[[int], None]
    enqueue: Callable[[], None]
    sync: Callable[[], float | None]

    def __init__(self, call: Callable[[], object], clock: Callable[[], int] = time.perf_counter_ns) -> None:
        """``call`` runs one query to its end; ``clock`` gives nanoseconds."""
        times = array("q")  # begin and end by turns
        record = times.append
        zero = 0
        latest: int | None = None

        # Closures: looking up attributes of self would cost as much as the rest of the bookkeeping.
        def begin(at_ns: int) -> None:
            nonlocal zero, latest
            zero = at_ns
            latest = None
            del times[:]

        def enqueue() -> None:
            nonlocal latest
            start = clock()
            call()
            end = clock()
            record(start)
            record(end)
            latest = start

        def zero_ns() -> int:
            return zero

        def sync() -> float | None:
            return None if latest is None else (latest - zero) * 1e-6

        self.begin, self.enqueue, self.sync = begin, enqueue, sync
        self._times = times
        self._zero_ns = zero_ns

    def drain(self) -> None:
        """Nothing to wait for."""

    def trace(self) -> Trace:
        """The recorded queries."""
        import numpy as np

        from ptqbridge.measure.trace import Trace

        stamps = np.array(self._times, dtype=np.int64) - self._zero_ns()
        milliseconds = np.asarray(stamps * 1e-6, dtype=np.float64)  # as sync computes it
        return Trace(compute_start=milliseconds[0::2], compute_end=milliseconds[1::2])
