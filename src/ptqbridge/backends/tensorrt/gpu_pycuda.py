"""The device layer through pycuda (https://documen.tician.de/pycuda/driver.html). See ``device.py``.

pycuda knows no graphs: its streams are plain CUstreams, so graphs are captured on the driver itself. What pycuda
makes is given back when Python lets go of it; ``close`` does that while the context is still current.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pycuda
from pycuda import driver

from ptqbridge.backends.tensorrt import gpu
from ptqbridge.backends.tensorrt.cuda import ATTRIBUTES, CudaError, Driver
from ptqbridge.backends.tensorrt.device import OUT_OF_MEMORY, Step, check_index, cuda_version

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

NAMES = {
    "multiprocessors": "MULTIPROCESSOR_COUNT",
    "clock_khz": "CLOCK_RATE",
    "memory_clock_khz": "MEMORY_CLOCK_RATE",
    "memory_bus_bits": "GLOBAL_MEMORY_BUS_WIDTH",
    "ecc": "ECC_ENABLED",
    "compute_major": "COMPUTE_CAPABILITY_MAJOR",
    "compute_minor": "COMPUTE_CAPABILITY_MINOR",
    "shared_memory_per_multiprocessor": "MAX_SHARED_MEMORY_PER_MULTIPROCESSOR",
    "persisting_l2_bytes": "MAX_PERSISTING_L2_CACHE_SIZE",
    "integrated": "INTEGRATED",
}
"""Names in ``driver.device_attribute``."""


@contextmanager
def _told() -> Iterator[None]:
    """pycuda's errors ("cuMemAlloc failed: out of memory") as CudaError."""
    try:
        yield
    except driver.Error as error:
        raise _error(error) from None


def _error(error: Exception) -> CudaError:
    call, _, text = " ".join(str(error).split()).partition(" failed: ")
    return CudaError(call, OUT_OF_MEMORY if isinstance(error, driver.MemoryError) else -1, text)


class Stream:
    """See ``device.Stream``."""

    def __init__(self) -> None:
        with _told():
            self.made: Any = driver.Stream()
        self.handle: int = self.made.handle

    def synchronize(self) -> None:
        """See ``device.Stream``."""
        with _told():
            self.made.synchronize()

    def close(self) -> None:
        """See ``device.Stream``."""
        self.made = None


class Event:
    """See ``device.Event``."""

    def __init__(self, *, spin: bool) -> None:
        with _told():
            self.made: Any = driver.Event(driver.event_flags.DEFAULT if spin else driver.event_flags.BLOCKING_SYNC)

    def recorder(self, stream: Stream) -> Step:
        """See ``device.Event``."""
        return partial(self.made.record, stream.made)

    def waiter(self, stream: Stream) -> Step:
        """See ``device.Event``."""
        return partial(stream.made.wait_for_event, self.made)

    def synchronizer(self) -> Step:
        """See ``device.Event``."""
        return self.made.synchronize  # type: ignore[no-any-return]

    def since(self, earlier: Event) -> float:
        """See ``device.Event``."""
        with _told():
            return float(self.made.time_since(earlier.made))

    def close(self) -> None:
        """See ``device.Event``."""
        self.made = None


class Memory:
    """See ``device.Memory``."""

    def __init__(self, size: int) -> None:
        with _told():
            self.made: Any = driver.mem_alloc(max(1, size))
        self.address, self.size = int(self.made), size

    def close(self) -> None:
        """See ``device.Memory``."""
        self.made.free()


class Buffer:
    """See ``device.Buffer``."""

    def __init__(self, size: int, *, managed: bool = False) -> None:
        import numpy as np

        self.size, self.managed = size, managed
        taken = max(1, size)
        self.device: Memory | None = None
        with _told():
            if managed:
                self.whole = driver.managed_empty(taken, np.uint8, mem_flags=driver.mem_attach_flags.GLOBAL)
                self.address = int(self.whole.base.get_device_pointer())
            else:
                self.device = Memory(size)
                self.address = self.device.address
                try:
                    self.whole = driver.pagelocked_empty(taken, np.uint8)
                except driver.Error:
                    self.device.close()
                    raise
        self.host: Bytes = self.whole[:size]

    def uploader(self, stream: Stream) -> Step | None:
        """See ``device.Buffer``."""
        if self.managed or not self.size:
            return None
        return partial(driver.memcpy_htod_async, self.address, self.host, stream.made)

    def downloader(self, stream: Stream) -> Step | None:
        """See ``device.Buffer``."""
        if self.managed or not self.size:
            return None
        return partial(driver.memcpy_dtoh_async, self.host, self.address, stream.made)

    def close(self) -> None:
        """See ``device.Buffer``."""
        if self.device is not None:
            self.device.close()
        self.whole.base.free()


class PycudaDevice:
    """See ``device.Device``."""

    # Makers, see ``device.Device``.
    stream = staticmethod(Stream)
    event = staticmethod(Event)
    buffer = staticmethod(Buffer)
    memory = staticmethod(Memory)

    def __init__(self, index: int) -> None:
        """Raises CudaError when there is no such device."""
        with _told():
            driver.init()
            check_index(index, driver.Device.count())
            self.made = driver.Device(index)
            self.context = self.made.retain_primary_context()
        self.layer = f"pycuda {pycuda.VERSION_TEXT}"
        self.enter()
        # pycuda aborts the process when a context is still current at its end.
        atexit.register(self.close)

    def enter(self) -> None:
        """See ``device.Device``."""
        with _told():
            self.context.push()

    def leave(self) -> None:
        """See ``device.Device``."""
        with _told():
            driver.Context.pop()

    def close(self) -> None:
        """See ``device.Device``."""
        atexit.unregister(self.close)
        self.leave()
        with _told():
            self.context.detach()

    def graph(self, stream: Stream, launch: Callable[[], object]) -> gpu.Graph:
        """See ``device.Device``."""
        return _Graph(Driver(), stream, launch)

    def fetch(self, address: int, size: int) -> Bytes:
        """See ``device.Device``."""
        import numpy as np

        found = np.empty(size, np.uint8)
        with _told():
            driver.memcpy_dtoh(found, address)
        return found

    def wait(self, stream: int) -> None:
        """See ``device.Device``; pycuda cannot wait for a stream that it did not make, so this waits for all."""
        with _told():
            driver.Context.synchronize()

    def batch(self, steps: Sequence[Step | None]) -> Callable[[], None]:
        """See ``device.Device``."""
        wanted = tuple(step for step in steps if step is not None)

        def make_all() -> None:
            try:
                for step in wanted:
                    step()
            except driver.Error as error:
                raise _error(error) from None

        return make_all

    def info(self) -> dict[str, Any]:
        """See ``device.Device``."""
        with _told():
            found: dict[str, Any] = {"name": self.made.name(), "memory_bytes": self.made.total_memory()}
            found |= {word: self.attribute(word) for word in ATTRIBUTES}
            found |= {"driver_cuda": cuda_version(driver.get_driver_version()), "pci": self.made.pci_bus_id()}
        return found

    def attribute(self, word: str) -> int:
        """See ``device.Device``."""
        with _told():
            return int(self.made.get_attribute(getattr(driver.device_attribute, NAMES[word])))


class _Graph(gpu.Graph):
    """A graph on the driver itself, whose launch raises as pycuda's calls do not: the status is looked at here."""

    def __init__(self, library: Driver, stream: Stream, launch: Callable[[], object]) -> None:
        super().__init__(library, stream, launch)
        launched = self.launcher

        def launcher() -> None:
            status = launched()
            if status:
                raise CudaError("cuGraphLaunch", int(status), library.name(int(status)))  # type: ignore[call-overload]

        self.launcher = launcher
