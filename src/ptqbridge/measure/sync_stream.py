"""A timing stream for synchronous engines, whose call returns when the query is complete (ONNX Runtime)."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ptqbridge.measure.trace import Stamps, Trace


class SyncStream:
    """Records the host clock before and after each call; nothing is ever left in flight.

    Such an engine has no copies to a device and no enqueue apart from the query itself: its trace has the compute
    columns only. 16 bytes are kept per query, and nothing else is made.
    """

    __slots__ = ("_begin_ns", "_call", "_clock", "_end_ns", "_zero_ns")

    def __init__(self, call: Callable[[], object], clock: Callable[[], int] = time.perf_counter_ns) -> None:
        """``call`` runs one query to its end; ``clock`` gives nanoseconds."""
        self._call = call
        self._clock = clock
        self._begin_ns = array("q")
        self._end_ns = array("q")
        self._zero_ns = 0

    def begin(self, zero_ns: int) -> None:
        """Set the zero point and forget earlier queries."""
        self._zero_ns = zero_ns
        self._begin_ns = array("q")
        self._end_ns = array("q")

    def enqueue(self) -> None:
        """Run one query and record when it began and ended. A query that raises is not recorded."""
        clock = self._clock
        begin = clock()
        self._call()
        end = clock()
        self._begin_ns.append(begin)
        self._end_ns.append(end)

    def sync(self) -> float | None:
        """Compute start of the latest query in ms after the zero point; None before the first."""
        begins = self._begin_ns
        return (begins[-1] - self._zero_ns) * 1e-6 if begins else None

    def drain(self) -> None:
        """Nothing to wait for."""

    def trace(self) -> Trace:
        """The recorded queries."""
        import numpy as np

        from ptqbridge.measure.trace import Trace

        def stamps(times: array[int]) -> Stamps:
            after_zero = (np.array(times, dtype=np.int64) - self._zero_ns) * 1e-6  # as sync computes it
            return np.asarray(after_zero, dtype=np.float64)

        return Trace(compute_start=stamps(self._begin_ns), compute_end=stamps(self._end_ns))
