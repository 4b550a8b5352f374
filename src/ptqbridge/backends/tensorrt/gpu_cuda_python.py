"""The device layer through cuda-python (https://nvidia.github.io/cuda-python/). See ``device.py``.

Every function of its driver module returns a tuple that begins with the CUresult; flags and attributes are enums.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

try:
    from cuda.bindings import __version__, driver
except ModuleNotFoundError:
    try:  # the older name of the module
        from cuda import __version__
        from cuda import cuda as driver
    except ImportError:  # other projects have a package "cuda" too
        raise ModuleNotFoundError("cuda-python is not installed") from None

from ptqbridge.backends.tensorrt.cuda import ATTRIBUTES, CudaError
from ptqbridge.backends.tensorrt.device import Step, check_index, cuda_version

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]


def _made(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a call gives besides its status: None, a value, or a tuple. Raises CudaError."""
    try:
        status, *found = function(*arguments)
    except RuntimeError as error:  # the driver library is loaded at the first call
        raise CudaError("loading the driver", -1, " ".join(str(error).split())) from None
    if int(status):
        raise _error(function, status)
    return found[0] if len(found) == 1 else tuple(found) or None


def _error(function: Any, status: Any) -> CudaError:
    known, name = driver.cuGetErrorName(status)
    text = "" if int(known) or name is None else name.decode()
    return CudaError(getattr(function, "__name__", "a call of the driver"), int(status), text)


class Stream:
    """See ``device.Stream``."""

    def __init__(self) -> None:
        self.made = _made(driver.cuStreamCreate, 0)
        self.handle = int(self.made)

    def synchronize(self) -> None:
        """See ``device.Stream``."""
        _made(driver.cuStreamSynchronize, self.made)

    def close(self) -> None:
        """See ``device.Stream``."""
        _made(driver.cuStreamDestroy, self.made)


class Event:
    """See ``device.Event``."""

    def __init__(self, *, spin: bool) -> None:
        flags = driver.CUevent_flags
        kind = flags.CU_EVENT_DEFAULT if spin else flags.CU_EVENT_BLOCKING_SYNC
        self.made = _made(driver.cuEventCreate, int(kind))

    def recorder(self, stream: Stream) -> Step:
        """See ``device.Event``."""
        return partial(driver.cuEventRecord, self.made, stream.made)

    def waiter(self, stream: Stream) -> Step:
        """See ``device.Event``."""
        return partial(driver.cuStreamWaitEvent, stream.made, self.made, 0)

    def synchronizer(self) -> Step:
        """See ``device.Event``."""
        return partial(driver.cuEventSynchronize, self.made)

    def since(self, earlier: Event) -> float:
        """See ``device.Event``."""
        return float(_made(driver.cuEventElapsedTime, earlier.made, self.made))

    def close(self) -> None:
        """See ``device.Event``."""
        _made(driver.cuEventDestroy, self.made)


class Memory:
    """See ``device.Memory``."""

    def __init__(self, size: int) -> None:
        self.made = _made(driver.cuMemAlloc, max(1, size))
        self.address, self.size = int(self.made), size

    def close(self) -> None:
        """See ``device.Memory``."""
        _made(driver.cuMemFree, self.made)


class Buffer:
    """See ``device.Buffer``."""

    def __init__(self, size: int, *, managed: bool = False) -> None:
        import numpy as np

        self.size, self.managed = size, managed
        taken = max(1, size)
        if managed:
            attach = driver.CUmemAttach_flags.CU_MEM_ATTACH_GLOBAL
            self.made = _made(driver.cuMemAllocManaged, taken, int(attach))
            self.pinned = int(self.made)
        else:
            self.made = _made(driver.cuMemAlloc, taken)
            try:
                self.pinned = int(_made(driver.cuMemHostAlloc, taken, 0))
            except CudaError:
                _made(driver.cuMemFree, self.made)
                raise
        self.address = int(self.made)
        memory = (ctypes.c_uint8 * taken).from_address(self.pinned)
        self.host: Bytes = np.frombuffer(memoryview(memory), np.uint8)[:size]

    def uploader(self, stream: Stream) -> Step | None:
        """See ``device.Buffer``."""
        if self.managed or not self.size:
            return None
        return partial(driver.cuMemcpyHtoDAsync, self.made, self.pinned, self.size, stream.made)

    def downloader(self, stream: Stream) -> Step | None:
        """See ``device.Buffer``."""
        if self.managed or not self.size:
            return None
        return partial(driver.cuMemcpyDtoHAsync, self.pinned, self.made, self.size, stream.made)

    def close(self) -> None:
        """See ``device.Buffer``."""
        _made(driver.cuMemFree, self.made)
        if not self.managed:
            _made(driver.cuMemFreeHost, self.pinned)


class Graph:
    """See ``device.Graph``."""

    def __init__(self, stream: Stream, launch: Callable[[], object]) -> None:
        """Raises CudaError when the launch cannot be captured."""
        _made(driver.cuStreamBeginCapture, stream.made, driver.CUstreamCaptureMode.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
        launched: object = False
        try:
            launched = launch()
        finally:  # a stream left capturing would refuse every other call
            status, captured = driver.cuStreamEndCapture(stream.made)
        if int(status):
            raise _error(driver.cuStreamEndCapture, status)
        # The older name takes the flags in every version that has it; cuGraphInstantiate only since 12.
        instantiate = getattr(driver, "cuGraphInstantiateWithFlags", None) or driver.cuGraphInstantiate
        try:
            if launched is False:
                raise CudaError("cuStreamEndCapture", -1, "not launched")
            self.made = _made(instantiate, captured, 0)
        finally:
            driver.cuGraphDestroy(captured)
        self.launcher: Step = partial(driver.cuGraphLaunch, self.made, stream.made)

    def close(self) -> None:
        """See ``device.Graph``."""
        _made(driver.cuGraphExecDestroy, self.made)


class CudaPythonDevice:
    """See ``device.Device``."""

    # Makers, see ``device.Device``.
    stream = staticmethod(Stream)
    event = staticmethod(Event)
    buffer = staticmethod(Buffer)
    memory = staticmethod(Memory)
    graph = staticmethod(Graph)

    def __init__(self, index: int) -> None:
        """Raises CudaError when there is no such device."""
        _made(driver.cuInit, 0)
        check_index(index, int(_made(driver.cuDeviceGetCount)))
        self.made = _made(driver.cuDeviceGet, index)
        self.context = _made(driver.cuDevicePrimaryCtxRetain, self.made)
        self.layer = f"cuda-python {__version__}"
        self.enter()

    def enter(self) -> None:
        """See ``device.Device``."""
        _made(driver.cuCtxPushCurrent, self.context)

    def leave(self) -> None:
        """See ``device.Device``."""
        _made(driver.cuCtxPopCurrent)

    def close(self) -> None:
        """See ``device.Device``."""
        self.leave()
        _made(driver.cuDevicePrimaryCtxRelease, self.made)

    def fetch(self, address: int, size: int) -> Bytes:
        """See ``device.Device``."""
        import numpy as np

        found = np.empty(size, np.uint8)
        _made(driver.cuMemcpyDtoH, found.ctypes.data, address, size)
        return found

    def wait(self, stream: int) -> None:
        """See ``device.Device``."""
        _made(driver.cuStreamSynchronize, driver.CUstream(stream))

    def batch(self, steps: Sequence[Step | None]) -> Callable[[], None]:
        """See ``device.Device``."""
        wanted: tuple[Any, ...] = tuple(step for step in steps if step is not None)

        def make_all() -> None:
            for step in wanted:
                status = step()[0]
                if status:
                    raise _error(step.func, status)

        return make_all

    def info(self) -> dict[str, Any]:
        """See ``device.Device``."""
        found: dict[str, Any] = {"name": _text(_made(driver.cuDeviceGetName, 256, self.made))}
        found["memory_bytes"] = int(_made(driver.cuDeviceTotalMem, self.made))
        found |= {word: self.attribute(word) for word in ATTRIBUTES}
        found["driver_cuda"] = cuda_version(int(_made(driver.cuDriverGetVersion)))
        found["pci"] = _text(_made(driver.cuDeviceGetPCIBusId, 64, self.made))
        return found

    def attribute(self, word: str) -> int:
        """See ``device.Device``."""
        return int(_made(driver.cuDeviceGetAttribute, driver.CUdevice_attribute(ATTRIBUTES[word]), self.made))


def _text(found: bytes) -> str:
    return found.split(b"\0")[0].decode()
