"""The device layer on the driver itself, through ctypes: events, memory and graphs. See ``device.py``."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ptqbridge.backends.tensorrt import cuda
from ptqbridge.backends.tensorrt.cuda import CudaError, Driver, Stream
from ptqbridge.backends.tensorrt.device import Step

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

BLOCKING_SYNC = 1
ATTACH_GLOBAL = 1
CAPTURE_THREAD_LOCAL = 1


class Event:
    """See ``device.Event``. ``spin``: waiting for it spins instead of sleeping."""

    def __init__(self, driver: Driver, *, spin: bool) -> None:
        self.driver = driver
        self.handle = ctypes.c_void_p()
        driver("cuEventCreate", ctypes.byref(self.handle), 0 if spin else BLOCKING_SYNC)
        self._elapsed = ctypes.c_float()

    def recorder(self, stream: Stream) -> Step:
        """See ``device.Event``."""
        return partial(self.driver.library.cuEventRecord, self.handle, ctypes.c_void_p(stream.handle))

    def waiter(self, stream: Stream) -> Step:
        """See ``device.Event``."""
        return partial(self.driver.library.cuStreamWaitEvent, ctypes.c_void_p(stream.handle), self.handle, 0)

    def synchronizer(self) -> Step:
        """See ``device.Event``."""
        return partial(self.driver.library.cuEventSynchronize, self.handle)

    def since(self, earlier: Event) -> float:
        """See ``device.Event``."""
        self.driver("cuEventElapsedTime", ctypes.byref(self._elapsed), earlier.handle, self.handle)
        return self._elapsed.value

    def close(self) -> None:
        """See ``device.Event``."""
        self.driver("cuEventDestroy_v2", self.handle)


class Memory:
    """See ``device.Memory``."""

    def __init__(self, driver: Driver, size: int) -> None:
        self.driver, self.size = driver, size
        self._device = ctypes.c_uint64()
        driver("cuMemAlloc_v2", ctypes.byref(self._device), ctypes.c_size_t(max(1, size)))
        self.address = self._device.value

    def close(self) -> None:
        """See ``device.Memory``."""
        self.driver("cuMemFree_v2", self._device)


class Buffer:
    """See ``device.Buffer``."""

    def __init__(self, driver: Driver, size: int, *, managed: bool) -> None:
        import numpy as np

        self.driver, self.size, self.managed = driver, size, managed
        taken = ctypes.c_size_t(max(1, size))
        self._device, self._host = ctypes.c_uint64(), ctypes.c_void_p()
        if managed:
            driver("cuMemAllocManaged", ctypes.byref(self._device), taken, ATTACH_GLOBAL)
            self._host.value = self._device.value
        else:
            driver("cuMemAlloc_v2", ctypes.byref(self._device), taken)
            try:
                driver("cuMemHostAlloc", ctypes.byref(self._host), taken, 0)
            except CudaError:
                driver("cuMemFree_v2", self._device)
                raise
        self.address = self._device.value
        memory = (ctypes.c_uint8 * taken.value).from_address(self._host.value or 0)
        self.host: Bytes = np.frombuffer(memoryview(memory), np.uint8)[:size]

    def uploader(self, stream: Stream) -> Step | None:
        """See ``device.Buffer``."""
        if self.managed or not self.size:
            return None
        copy = self.driver.library.cuMemcpyHtoDAsync_v2
        return partial(copy, self._device, self._host, ctypes.c_size_t(self.size), ctypes.c_void_p(stream.handle))

    def downloader(self, stream: Stream) -> Step | None:
        """See ``device.Buffer``."""
        if self.managed or not self.size:
            return None
        copy = self.driver.library.cuMemcpyDtoHAsync_v2
        return partial(copy, self._host, self._device, ctypes.c_size_t(self.size), ctypes.c_void_p(stream.handle))

    def close(self) -> None:
        """See ``device.Buffer``."""
        self.driver("cuMemFree_v2", self._device)
        if not self.managed:
            self.driver("cuMemFreeHost", self._host)


class Graph:
    """See ``device.Graph``."""

    def __init__(self, driver: Driver, stream: Any, launch: Callable[[], object]) -> None:
        """Raises CudaError when the launch cannot be captured."""
        self.driver = driver
        handle = ctypes.c_void_p(stream.handle)
        captured, self._graph = ctypes.c_void_p(), ctypes.c_void_p()
        driver("cuStreamBeginCapture_v2", handle, CAPTURE_THREAD_LOCAL)
        launched: object = False
        try:
            launched = launch()
        finally:  # a stream left capturing would refuse every other call
            status = driver.library.cuStreamEndCapture(handle, ctypes.byref(captured))
        try:
            if status or launched is False:
                raise CudaError("cuStreamEndCapture", status or -1, driver.name(status) if status else "not launched")
            driver("cuGraphInstantiateWithFlags", ctypes.byref(self._graph), captured, ctypes.c_ulonglong(0))
        finally:
            if captured.value:
                driver.library.cuGraphDestroy(captured)
        self.launcher: Step = partial(driver.library.cuGraphLaunch, self._graph, handle)

    def close(self) -> None:
        """See ``device.Graph``."""
        self.driver("cuGraphExecDestroy", self._graph)


class DriverDevice(cuda.Device):
    """See ``device.Device``."""

    layer = "the driver itself (ctypes)"

    def event(self, *, spin: bool) -> Event:
        """See ``device.Device``."""
        return Event(self.driver, spin=spin)

    def buffer(self, size: int, *, managed: bool = False) -> Buffer:
        """See ``device.Device``."""
        return Buffer(self.driver, size, managed=managed)

    def memory(self, size: int) -> Memory:
        """See ``device.Device``."""
        return Memory(self.driver, size)

    def graph(self, stream: Stream, launch: Callable[[], object]) -> Graph:
        """See ``device.Device``."""
        return Graph(self.driver, stream, launch)

    def fetch(self, address: int, size: int) -> Bytes:
        """See ``device.Device``."""
        import numpy as np

        found = np.empty(size, np.uint8)
        target = ctypes.c_void_p(found.ctypes.data)
        self.driver("cuMemcpyDtoH_v2", target, ctypes.c_uint64(address), ctypes.c_size_t(size))
        return found

    def wait(self, stream: int) -> None:
        """See ``device.Device``."""
        self.driver("cuStreamSynchronize", ctypes.c_void_p(stream))

    def batch(self, steps: Sequence[Step | None]) -> Callable[[], None]:
        """See ``device.Device``."""
        wanted = tuple(step for step in steps if step is not None)

        def make_all() -> None:
            for step in wanted:
                status = step()
                if status:
                    call = getattr(getattr(step, "func", step), "__name__", "a call of the driver")
                    raise CudaError(call, int(status), self.driver.name(int(status)))  # type: ignore[call-overload]

        return make_all
