"""The NVIDIA driver through ctypes: a device, its primary context, streams. Nothing needs to be installed for it.

TensorRT takes plain CUstream numbers, so this serves where neither pycuda nor cuda-python is installed (device.py
chooses). Names and numbers are those of the CUDA driver API (cuda.h). An emitted script carries this file's text.
"""

from __future__ import annotations

import ctypes
from typing import Any

LIBRARY = "libcuda.so.1"
ATTRIBUTES = {
    "multiprocessors": 16,
    "clock_khz": 13,
    "memory_clock_khz": 36,
    "memory_bus_bits": 37,
    "ecc": 32,
    "compute_major": 75,
    "compute_minor": 76,
    "shared_memory_per_multiprocessor": 81,
    "persisting_l2_bytes": 108,
    "integrated": 18,
}
"""CUdevice_attribute numbers."""


class CudaError(Exception):
    """A call of the driver failed. ``status`` is its CUresult (2 is out of memory), negative where it is unknown."""

    def __init__(self, call: str, status: int, name: str = "") -> None:
        super().__init__(f"{call}: {name or 'error'}" + (f" ({status})" if status >= 0 else ""))
        self.status = status


def load_library() -> Any:
    """The driver's library."""
    return ctypes.CDLL(LIBRARY)


class Driver:
    """The driver library; every call is checked."""

    def __init__(self) -> None:
        """Raises CudaError when there is no driver."""
        try:
            self.library = load_library()
        except OSError:
            raise CudaError(f"loading {LIBRARY}", -1, "no NVIDIA driver was found") from None
        self("cuInit", 0)

    def __call__(self, name: str, *arguments: Any) -> None:
        status = getattr(self.library, name)(*arguments)
        if status:
            raise CudaError(name, status, self.name(status))

    def name(self, status: int) -> str:
        """CUDA's name of a CUresult, or ""."""
        text = ctypes.c_char_p()
        known = self.library.cuGetErrorName(status, ctypes.byref(text)) == 0
        return (text.value or b"").decode() if known else ""

    def count(self) -> int:
        """The number of devices."""
        number = ctypes.c_int()
        self("cuDeviceGetCount", ctypes.byref(number))
        return number.value


class Stream:
    """A CUDA stream with the default flags, as trtexec makes them. ``handle`` is the CUstream as a number."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        handle = ctypes.c_void_p()
        driver("cuStreamCreate", ctypes.byref(handle), 0)
        self.handle: int = handle.value or 0

    def synchronize(self) -> None:
        """Wait until everything in it is done."""
        self.driver("cuStreamSynchronize", ctypes.c_void_p(self.handle))

    def close(self) -> None:
        """Give it back."""
        self.driver("cuStreamDestroy_v2", ctypes.c_void_p(self.handle))


class Device:
    """A GPU whose primary context is current in this thread; TensorRT works in that context."""

    def __init__(self, index: int = 0, driver: Driver | None = None) -> None:
        """Raises CudaError when there is no such device."""
        self.driver = driver or Driver()
        self.index = index
        count = self.driver.count()
        if not 0 <= index < count:
            raise CudaError(f"--device={index}", 101, f"there {'is' if count == 1 else 'are'} {count}, counted from 0")
        self._number = ctypes.c_int()
        self.driver("cuDeviceGet", ctypes.byref(self._number), index)
        self._context = ctypes.c_void_p()
        self.driver("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), self._number)
        self.enter()

    def enter(self) -> None:
        """Make the context current in the calling thread: once per thread."""
        self.driver("cuCtxPushCurrent_v2", self._context)

    def leave(self) -> None:
        """The end of ``enter``."""
        self.driver("cuCtxPopCurrent_v2", ctypes.byref(ctypes.c_void_p()))

    def close(self) -> None:
        """Leave, and give the primary context back."""
        self.leave()
        self.driver("cuDevicePrimaryCtxRelease_v2", self._number)

    def stream(self) -> Stream:
        """A new stream."""
        return Stream(self.driver)

    def info(self) -> dict[str, Any]:
        """Name, memory in bytes, and the attributes that the log shows, under the names of ``ATTRIBUTES``."""
        name = ctypes.create_string_buffer(256)
        self.driver("cuDeviceGetName", name, len(name), self._number)
        memory = ctypes.c_size_t()
        self.driver("cuDeviceTotalMem_v2", ctypes.byref(memory), self._number)
        found: dict[str, Any] = {"name": name.value.decode(), "memory_bytes": memory.value}
        for word in ATTRIBUTES:
            found[word] = self.attribute(word)
        version = ctypes.c_int()
        self.driver("cuDriverGetVersion", ctypes.byref(version))
        found["driver_cuda"] = f"{version.value // 1000}.{version.value % 1000 // 10}"
        self.driver("cuDeviceGetPCIBusId", name, len(name), self._number)
        found["pci"] = name.value.decode()
        return found

    def attribute(self, word: str) -> int:
        """One of ``ATTRIBUTES``."""
        value = ctypes.c_int()
        self.driver("cuDeviceGetAttribute", ctypes.byref(value), ATTRIBUTES[word], self._number)
        return value.value


def open_device(index: int) -> Device:
    """The GPU with this number, current in this thread. To be called before anything of TensorRT is made."""
    return Device(index)
