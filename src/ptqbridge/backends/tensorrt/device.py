"""The GPU as measuring sees it: few calls, made through pycuda, cuda-python, or the driver itself, whichever is there.

Calls that are made per query are given out as steps: all arguments are bound once, and a step costs about a
microsecond. What a step returns differs; only ``Device.batch`` knows, and turns failures into CudaError.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ptqbridge.backends.tensorrt.cuda import CudaError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

Step = Callable[[], object]
OUT_OF_MEMORY = 2
"""CUDA_ERROR_OUT_OF_MEMORY."""
LAYERS = {
    "pycuda": ("ptqbridge.backends.tensorrt.gpu_pycuda", "PycudaDevice"),
    "cuda-python": ("ptqbridge.backends.tensorrt.gpu_cuda_python", "CudaPythonDevice"),
    "driver": ("ptqbridge.backends.tensorrt.gpu", "DriverDevice"),
}
"""Ways to the GPU, the preferred first; the last needs nothing installed."""
CHOICE = "PTQBRIDGE_CUDA"
"""The environment variable that names one of LAYERS."""


class Stream(Protocol):
    """A CUDA stream with the default flags, as trtexec makes them; ``handle`` is the CUstream as a number."""

    handle: int

    def synchronize(self) -> None:
        """Wait until everything in it is done."""

    def close(self) -> None:
        """Give it back."""


class Event(Protocol):
    """A CUDA event that keeps its time; its methods other than ``since`` give steps."""

    def recorder(self, stream: Any) -> Step:
        """Put it at the end of what ``stream`` holds."""

    def waiter(self, stream: Any) -> Step:
        """Let ``stream`` wait for it."""

    def synchronizer(self) -> Step:
        """Let the host wait for it."""

    def since(self, earlier: Any) -> float:
        """Milliseconds between two events that have happened."""

    def close(self) -> None:
        """Give it back."""


class Buffer(Protocol):
    """One tensor's memory on device and (pinned) host; with managed memory both are the same and nothing is copied."""

    address: int
    size: int
    host: Bytes

    def uploader(self, stream: Any) -> Step | None:
        """The copy to the device as a step; None where there is nothing to copy."""

    def downloader(self, stream: Any) -> Step | None:
        """The copy to the host as a step; None where there is nothing to copy."""

    def close(self) -> None:
        """Give the memory back; ``host`` must not be used any more."""


class Memory(Protocol):
    """Memory on the device alone."""

    address: int
    size: int

    def close(self) -> None:
        """Give it back."""


class Graph(Protocol):
    """A launch captured once, to be repeated as a whole by the step ``launcher``."""

    launcher: Step

    def close(self) -> None:
        """Give it back."""


class Device(Protocol):
    """A GPU whose primary context is current in this thread; TensorRT works in that context.

    All methods raise CudaError when the driver refuses. ``layer`` says what makes the calls, with its version.
    """

    layer: str

    def enter(self) -> None:
        """Make the context current in the calling thread: once per thread."""

    def leave(self) -> None:
        """The end of ``enter``."""

    def close(self) -> None:
        """Leave, and give the primary context back."""

    def stream(self) -> Any:
        """A new Stream."""

    def event(self, *, spin: bool) -> Any:
        """A new Event; waiting for it spins or sleeps."""

    def buffer(self, size: int, *, managed: bool = False) -> Any:
        """A new Buffer of ``size`` bytes; at least one is taken."""

    def memory(self, size: int) -> Any:
        """New Memory of ``size`` bytes; at least one is taken."""

    def graph(self, stream: Any, launch: Callable[[], object]) -> Any:
        """A Graph of what ``launch`` puts into ``stream``; False from ``launch`` is a failure too."""

    def fetch(self, address: int, size: int) -> Bytes:
        """A copy of ``size`` bytes of device memory, made at once."""

    def wait(self, stream: int) -> None:
        """Let the host wait for a stream of TensorRT's, given as a number."""

    def batch(self, steps: Sequence[Step | None]) -> Callable[[], None]:
        """A function that makes these steps in order (None is passed over). It raises CudaError for a failed one."""

    def info(self) -> dict[str, Any]:
        """Name, memory in bytes, PCI address, CUDA version of the driver, and ``cuda.ATTRIBUTES`` by their words."""

    def attribute(self, word: str) -> int:
        """One of ``cuda.ATTRIBUTES``."""


def open_device(index: int) -> Device:
    """The GPU with this number, current in this thread. To be called before anything of TensorRT is made.

    Raises CudaError when there is no driver or no such device, or when PTQBRIDGE_CUDA names no usable way.
    """
    asked = os.environ.get(CHOICE, "")
    if asked and asked not in LAYERS:
        raise CudaError(CHOICE, -1, f"expected {', '.join(LAYERS)}, found {asked!r}")
    broken = []
    for name in [asked] if asked else LAYERS:
        try:
            kind = _kind(name)
        except ImportError as error:
            # Not installed, or built for another driver: the next way does as well.
            if not isinstance(error, ModuleNotFoundError):
                broken.append(f"{name} cannot be used: {' '.join(str(error).split())}")
            if asked:
                raise CudaError(f"{CHOICE}={asked}", -1, f"cannot be imported: {error}") from None
            continue
        device: Device = kind(index)
        device.layer += "".join(f"; {text}" for text in broken)
        return device
    raise AssertionError("the driver itself needs no module")


def _kind(name: str) -> Any:
    module, kind = LAYERS[name]
    return getattr(importlib.import_module(module), kind)


def check_index(index: int, count: int) -> None:
    """Raises CudaError when there is no device of this number."""
    if not 0 <= index < count:
        raise CudaError(f"--device={index}", 101, f"there {'is' if count == 1 else 'are'} {count}, counted from 0")


def cuda_version(number: int) -> str:
    """``12.4`` of the driver's 12040."""
    return f"{number // 1000}.{number % 1000 // 10}"
