"""One inference stream on the GPU, for the timing loop: three CUDA streams, six events per slot, two slots.

After NVIDIA/TensorRT samples/common/sampleInference.cpp (``Iteration``), v8.6.1: copies and compute overlap, the host
is one query ahead, a query's times are those of its events since the zero event.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ptqbridge.backends.tensorrt.cuda import CudaError

if TYPE_CHECKING:
    from ptqbridge.backends.tensorrt.device import Buffer, Device, Event, Graph
    from ptqbridge.backends.tensorrt.tensors import LateOutput
    from ptqbridge.measure.trace import Trace

COLUMNS = (
    "enqueue_start",
    "enqueue_end",
    "h2d_start",
    "h2d_end",
    "compute_start",
    "compute_end",
    "d2h_start",
    "d2h_end",
)


Steps = Callable[[], None]
"""Calls of the device layer, ready to be made; raises CudaError."""


def _nothing() -> None:
    pass


class LaunchFailed(Exception):
    """``execute_async_v3`` returned False."""


@dataclass(frozen=True)
class Policy:
    """How queries are put on the GPU: ``transfers`` copies inputs and outputs in each query, ``overlap`` keeps two."""

    transfers: bool = True
    overlap: bool = True
    spin: bool = False
    graph: bool = False


class _Slot:
    """The events of one query in flight."""

    def __init__(self, device: Device, spin: bool) -> None:
        self.events = [device.event(spin=spin) for _ in range(6)]
        self.busy = False
        self.host = (0, 0)
        self.before: Steps = _nothing
        self.after: Steps = _nothing
        self.wait: Steps = _nothing


class GpuStream:
    """See ``ptqbridge.measure.loop.Stream``. ``context`` is an execution context with its addresses set."""

    def __init__(
        self,
        device: Device,
        context: Any,
        inputs: Sequence[Buffer],
        outputs: Sequence[Buffer],
        zero: Event,
        policy: Policy,
        after_launch: Callable[[], Any] | None = None,
        lates: Sequence[LateOutput] = (),
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        """``zero`` is the event that all times count from; ``after_launch`` is called after each launch.

        ``lates`` are outputs beside ``outputs`` whose memory is only known after each launch.
        """
        self.device, self.context, self.policy, self.zero = device, context, policy, zero
        self.streams = [device.stream() for _ in range(3)]
        self.inputs, self.outputs, self.after_launch, self.clock = inputs, outputs, after_launch, clock
        self.lates = lates
        self.slots = [_Slot(device, policy.spin) for _ in range(2 if policy.overlap else 1)]
        for slot in self.slots:
            self._settle(slot)
        self.at = 0
        self.times = array("d")
        self.zero_ns = 0
        self.graph: Graph | None = None
        self.note = ""
        self.launch: Steps = self._execute

    def _settle(self, slot: _Slot) -> None:
        """The steps of a query, made once."""
        batch = self.device.batch
        source, compute, sink = self.streams
        h2d_start, h2d_end, compute_start, compute_end, d2h_start, d2h_end = slot.events
        if not self.policy.transfers:
            slot.before = batch([compute_start.recorder(compute)])
            slot.after = batch([compute_end.recorder(compute)])
            slot.wait = batch([compute_end.synchronizer()])
            return
        up = [buffer.uploader(source) for buffer in self.inputs]
        down = [buffer.downloader(sink) for buffer in self.outputs]
        before = [h2d_start.recorder(source), *up, h2d_end.recorder(source), h2d_end.waiter(compute)]
        slot.before = batch([*before, compute_start.recorder(compute)])
        after = [compute_end.recorder(compute), compute_end.waiter(sink), d2h_start.recorder(sink), *down]
        if self.lates:
            slot.after = self._with_lates(batch(after), batch([d2h_end.recorder(sink)]))
        else:
            slot.after = batch([*after, d2h_end.recorder(sink)])
        slot.wait = batch([d2h_end.synchronizer()])

    def _with_lates(self, first: Steps, last: Steps) -> Steps:
        sink = self.streams[2]

        def after() -> None:
            first()
            for late in self.lates:
                late.copy(sink)
            last()

        return after

    def _execute(self) -> None:
        if not self.context.execute_async_v3(self.streams[1].handle):
            raise LaunchFailed

    def prepare(self) -> None:
        """Copy the inputs, run once, and capture the launch if asked. Raises LaunchFailed and CudaError."""
        source, compute, _ = self.streams
        self.device.batch([buffer.uploader(source) for buffer in self.inputs])()
        source.synchronize()
        self._execute()
        if self.after_launch is not None:
            self.after_launch()
        compute.synchronize()
        if self.policy.graph:
            try:
                self.graph = self.device.graph(compute, self._captured)
                self.launch = self.device.batch([self.graph.launcher])
            except CudaError as error:
                self.note = f"the engine cannot be captured as a CUDA graph and runs without: {error}"

    def _captured(self) -> bool:
        return bool(self.context.execute_async_v3(self.streams[1].handle))

    def begin(self, zero_ns: int) -> None:
        """The first copy waits for the zero event, so that no stamp lies before it."""
        self.zero_ns = zero_ns
        first = self.streams[0 if self.policy.transfers else 1]
        self.device.batch([self.zero.waiter(first)])()

    def enqueue(self) -> None:
        """One query on the next slot."""
        slot = self.slots[self.at]
        slot.before()
        started = self.clock()
        self.launch()
        ended = self.clock()
        slot.after()
        if self.after_launch is not None:
            self.after_launch()
        slot.host = (started, ended)
        slot.busy = True
        self.at = (self.at + 1) % len(self.slots)

    def sync(self) -> float | None:
        """Wait for the slot that comes next, if it is in flight."""
        slot = self.slots[self.at]
        if not slot.busy:
            return None
        slot.wait()
        slot.busy = False
        started, ended = ((moment - self.zero_ns) * 1e-6 for moment in slot.host)
        stamps: list[float]
        if self.policy.transfers:
            stamps = [event.since(self.zero) for event in slot.events]
        else:  # copies before and after the loop only: their stamps fall onto those of the compute part
            first, last = slot.events[2].since(self.zero), slot.events[3].since(self.zero)
            stamps = [first, first, first, last, last, last]
        self.times.extend((started, ended, *stamps))
        return stamps[2]

    def drain(self) -> None:
        """Everything still in flight; without transfers the outputs come back now."""
        for _ in self.slots:
            self.sync()
            self.at = (self.at + 1) % len(self.slots)
        sink = self.streams[2]
        self.device.batch([buffer.downloader(sink) for buffer in self.outputs])()
        for late in self.lates:
            late.copy(sink)
        sink.synchronize()

    def trace(self) -> Trace:
        """The recorded queries."""
        import numpy as np

        from ptqbridge.measure.trace import Trace

        table = np.array(self.times, np.float64).reshape(-1, len(COLUMNS))
        return Trace(**{name: table[:, place] for place, name in enumerate(COLUMNS)})

    def close(self) -> None:
        """Give events, streams and graph back; nothing may be in flight."""
        if self.graph is not None:
            self.graph.close()
        for slot in self.slots:
            for event in slot.events:
                event.close()
        for stream in self.streams:
            stream.close()
