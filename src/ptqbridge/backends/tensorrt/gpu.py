"""Events, memory and graphs of the CUDA driver, for measuring. Every pointer and handle is a plain number outside.

Calls that are made per query are given out ready to be made (``recorder``, ``copier``...): argument objects are built
once, and such a call costs about a microsecond.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from ptqbridge.backends.tensorrt.cuda import CudaError, Driver, Stream

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

Step = Callable[[], int]
"""A call of the driver, ready to be made; returns its CUresult."""
BLOCKING_SYNC = 1
ATTACH_GLOBAL = 1
CAPTURE_THREAD_LOCAL = 1
OUT_OF_MEMORY = 2


class Event:
    """A CUDA event that keeps its time. Waiting for it sleeps, or spins when ``spin``."""

    def __init__(self, driver: Driver, *, spin: bool) -> None:
        self.driver = driver
        self.handle = ctypes.c_void_p()
        driver("cuEventCreate", ctypes.byref(self.handle), 0 if spin else BLOCKING_SYNC)
        self._elapsed = ctypes.c_float()

    def record(self, stream: Stream) -> None:
        """Put it at the end of what ``stream`` holds."""
        self.driver("cuEventRecord", self.handle, ctypes.c_void_p(stream.handle))

    def recorder(self, stream: Stream) -> Step:
        """``record`` as a step."""
        return partial(self.driver.library.cuEventRecord, self.handle, ctypes.c_void_p(stream.handle))

    def waiter(self, stream: Stream) -> Step:
        """Let ``stream`` wait for it, as a step."""
        return partial(self.driver.library.cuStreamWaitEvent, ctypes.c_void_p(stream.handle), self.handle, 0)

    def synchronizer(self) -> Step:
        """Let the host wait for it, as a step."""
        return partial(self.driver.library.cuEventSynchronize, self.handle)

    def since(self, earlier: Event) -> float:
        """Milliseconds between two events that have happened."""
        self.driver("cuEventElapsedTime", ctypes.byref(self._elapsed), earlier.handle, self.handle)
        return self._elapsed.value

    def close(self) -> None:
        """Give it back."""
        self.driver("cuEventDestroy_v2", self.handle)


class Buffer:
    """One tensor's memory on host and device; with managed memory both are the same and copies do nothing."""

    def __init__(self, driver: Driver, size: int, *, managed: bool) -> None:
        """At least one byte is taken. Raises CudaError when memory runs out."""
        import numpy as np

        self.driver, self.size, self.managed = driver, size, managed
        taken = max(1, size)
        self._device, self._host = ctypes.c_uint64(), ctypes.c_void_p()
        if managed:
            driver("cuMemAllocManaged", ctypes.byref(self._device), ctypes.c_size_t(taken), ATTACH_GLOBAL)
            self._host.value = self._device.value
        else:
            driver("cuMemAlloc_v2", ctypes.byref(self._device), ctypes.c_size_t(taken))
            driver("cuMemHostAlloc", ctypes.byref(self._host), ctypes.c_size_t(taken), 0)
        memory = (ctypes.c_uint8 * taken).from_address(self._host.value or 0)
        self.host: Bytes = np.frombuffer(memoryview(memory), np.uint8)[:size]

    @property
    def address(self) -> int:
        """The device pointer."""
        return self._device.value

    def uploader(self, stream: Stream) -> Step | None:
        """The copy to the device as a step; None with managed memory."""
        if self.managed or not self.size:
            return None
        copy = self.driver.library.cuMemcpyHtoDAsync_v2
        return partial(copy, self._device, self._host, ctypes.c_size_t(self.size), ctypes.c_void_p(stream.handle))

    def downloader(self, stream: Stream) -> Step | None:
        """The copy to the host as a step; None with managed memory."""
        if self.managed or not self.size:
            return None
        copy = self.driver.library.cuMemcpyDtoHAsync_v2
        return partial(copy, self._host, self._device, ctypes.c_size_t(self.size), ctypes.c_void_p(stream.handle))

    def close(self) -> None:
        """Give the memory back; ``host`` must not be used any more."""
        self.driver("cuMemFree_v2", self._device)
        if not self.managed:
            self.driver("cuMemFreeHost", self._host)


class Graph:
    """A launch captured once, to be repeated as a whole."""

    def __init__(self, driver: Driver, stream: Stream, launch: Callable[[], Any]) -> None:
        """Capture what ``launch`` puts into ``stream``. Raises CudaError when that cannot be captured."""
        self.driver = driver
        handle = ctypes.c_void_p(stream.handle)
        captured, self._graph = ctypes.c_void_p(), ctypes.c_void_p()
        driver("cuStreamBeginCapture_v2", handle, CAPTURE_THREAD_LOCAL)
        launched = launch()
        status = driver.library.cuStreamEndCapture(handle, ctypes.byref(captured))
        if status or launched is False:
            raise CudaError("cuStreamEndCapture", status, "the launch cannot be captured")
        try:
            driver("cuGraphInstantiateWithFlags", ctypes.byref(self._graph), captured, ctypes.c_ulonglong(0))
        finally:
            driver.library.cuGraphDestroy(captured)
        self.launcher: Step = partial(driver.library.cuGraphLaunch, self._graph, handle)

    def close(self) -> None:
        """Give it back."""
        self.driver("cuGraphExecDestroy", self._graph)


def run_steps(driver: Driver, steps: tuple[Step, ...]) -> None:
    """Make these calls. Raises CudaError for the first that fails."""
    for step in steps:
        status = step()
        if status:
            raise CudaError(getattr(getattr(step, "func", step), "__name__", "a call of the driver"), status)
