"""A stand-in for pycuda on the stand-in for the driver: the part of its documented interface that ptqbridge uses.

https://documen.tician.de/pycuda/driver.html: objects, errors that are raised, an explicit stack of contexts.
"""

from __future__ import annotations

import ctypes
import types
from typing import Any

import numpy as np

MESSAGES = {1: "invalid argument", 2: "out of memory", 100: "no CUDA-capable device is detected", 700: "illegal access"}


def make(library: Any) -> dict[str, Any]:
    """Modules by name; ``library`` is a CudaDouble."""
    driver: Any = types.ModuleType("pycuda.driver")
    package: Any = types.ModuleType("pycuda")
    package.driver, package.VERSION_TEXT = driver, "2026.1"

    class Error(Exception):
        pass

    class LogicError(Error):
        pass

    class MemoryError(Error):
        pass

    driver.Error, driver.LogicError, driver.MemoryError = Error, LogicError, MemoryError

    def call(name: str, *arguments: Any) -> None:
        status = getattr(library, name)(*arguments)
        if status:
            kind = MemoryError if status == 2 else LogicError
            raise kind(f"{name.removesuffix('_v2')} failed: {MESSAGES.get(status, 'unknown error')}")

    def init() -> None:
        call("cuInit", 0)

    class event_flags:
        DEFAULT, BLOCKING_SYNC = 0, 1

    class mem_attach_flags:
        GLOBAL = 1

    numbers = {
        **{"MULTIPROCESSOR_COUNT": 16, "CLOCK_RATE": 13, "MEMORY_CLOCK_RATE": 36, "GLOBAL_MEMORY_BUS_WIDTH": 37},
        **{"ECC_ENABLED": 32, "COMPUTE_CAPABILITY_MAJOR": 75, "COMPUTE_CAPABILITY_MINOR": 76, "INTEGRATED": 18},
        **{"MAX_SHARED_MEMORY_PER_MULTIPROCESSOR": 81, "MAX_PERSISTING_L2_CACHE_SIZE": 108},
    }
    driver.device_attribute = type("device_attribute", (), numbers)

    class Context:
        def __init__(self) -> None:
            self.handle = ctypes.c_void_p()
            call("cuDevicePrimaryCtxRetain", ctypes.byref(self.handle), 0)

        def push(self) -> None:
            call("cuCtxPushCurrent_v2", self.handle)

        @staticmethod
        def pop() -> None:
            call("cuCtxPopCurrent_v2", None)

        @staticmethod
        def synchronize() -> None:
            call("cuCtxSynchronize")

        def detach(self) -> None:
            call("cuDevicePrimaryCtxRelease_v2", 0)

    class Device:
        def __init__(self, number: int) -> None:
            self.number = number

        @staticmethod
        def count() -> int:
            found = ctypes.c_int()
            call("cuDeviceGetCount", ctypes.byref(found))
            return found.value

        def retain_primary_context(self) -> Context:
            return Context()

        def name(self) -> str:
            text = ctypes.create_string_buffer(256)
            call("cuDeviceGetName", text, 256, self.number)
            return text.value.decode()

        def pci_bus_id(self) -> str:
            text = ctypes.create_string_buffer(64)
            call("cuDeviceGetPCIBusId", text, 64, self.number)
            return text.value.decode()

        def total_memory(self) -> int:
            found = ctypes.c_size_t()
            call("cuDeviceTotalMem_v2", ctypes.byref(found), self.number)
            return found.value

        def get_attribute(self, attribute: int) -> int:
            found = ctypes.c_int()
            call("cuDeviceGetAttribute", ctypes.byref(found), attribute, self.number)
            return found.value

    class Stream:
        def __init__(self, flags: int = 0) -> None:
            self._made = ctypes.c_void_p()
            call("cuStreamCreate", ctypes.byref(self._made), flags)

        @property
        def handle(self) -> int:
            return self._made.value or 0

        def synchronize(self) -> None:
            call("cuStreamSynchronize", self._made)

        def wait_for_event(self, event: Event) -> None:
            call("cuStreamWaitEvent", self._made, event._made, 0)

        def __del__(self) -> None:
            library.cuStreamDestroy_v2(self._made)

    class Event:
        def __init__(self, flags: int = 0) -> None:
            self._made = ctypes.c_void_p()
            call("cuEventCreate", ctypes.byref(self._made), flags)

        def record(self, stream: Stream | None = None) -> Event:
            call("cuEventRecord", self._made, stream._made if stream else None)
            return self

        def synchronize(self) -> Event:
            call("cuEventSynchronize", self._made)
            return self

        def time_since(self, event: Event) -> float:
            found = ctypes.c_float()
            call("cuEventElapsedTime", ctypes.byref(found), event._made, self._made)
            return found.value

        def __del__(self) -> None:
            library.cuEventDestroy_v2(self._made)

    class DeviceAllocation:
        def __init__(self, size: int) -> None:
            self._made = ctypes.c_uint64()
            call("cuMemAlloc_v2", ctypes.byref(self._made), ctypes.c_size_t(size))

        def __int__(self) -> int:
            return self._made.value

        def free(self) -> None:
            call("cuMemFree_v2", self._made)

    class HostAllocation:
        """What an array's ``base`` is."""

        def __init__(self, pointer: Any, free: str) -> None:
            self._pointer, self._free = pointer, free

        def free(self) -> None:
            call(self._free, self._pointer)

        def get_device_pointer(self) -> int:
            return int(self._pointer.value)

    class Array(np.ndarray):  # type: ignore[type-arg]
        """numpy will not take a foreign base, so it is put over NumPy's own."""

        base: Any = None

    def array(pointer: Any, size: int, dtype: Any, free: str) -> Any:
        memory = (ctypes.c_uint8 * size).from_address(pointer.value)
        found = np.frombuffer(memoryview(memory), dtype).view(Array)
        found.base = HostAllocation(pointer, free)
        return found

    def pagelocked_empty(shape: int, dtype: Any, order: str = "C", mem_flags: int = 0) -> Any:
        pointer = ctypes.c_void_p()
        call("cuMemHostAlloc", ctypes.byref(pointer), ctypes.c_size_t(shape), mem_flags)
        return array(pointer, shape, dtype, "cuMemFreeHost")

    def managed_empty(shape: int, dtype: Any, order: str = "C", mem_flags: int = 0) -> Any:
        pointer = ctypes.c_uint64()
        call("cuMemAllocManaged", ctypes.byref(pointer), ctypes.c_size_t(shape), mem_flags)
        return array(pointer, shape, dtype, "cuMemFree_v2")

    def memcpy_htod_async(dest: int, src: Any, stream: Stream | None = None) -> None:
        where = ctypes.c_uint64(dest), ctypes.c_void_p(src.ctypes.data), ctypes.c_size_t(src.nbytes)
        call("cuMemcpyHtoDAsync_v2", *where, stream and stream._made)

    def memcpy_dtoh_async(dest: Any, src: int, stream: Stream | None = None) -> None:
        where = ctypes.c_void_p(dest.ctypes.data), ctypes.c_uint64(src), ctypes.c_size_t(dest.nbytes)
        call("cuMemcpyDtoHAsync_v2", *where, stream and stream._made)

    def memcpy_dtoh(dest: Any, src: int) -> None:
        call("cuMemcpyDtoH_v2", ctypes.c_void_p(dest.ctypes.data), ctypes.c_uint64(src), ctypes.c_size_t(dest.nbytes))

    def get_driver_version() -> int:
        found = ctypes.c_int()
        call("cuDriverGetVersion", ctypes.byref(found))
        return found.value

    driver.mem_alloc = DeviceAllocation
    for value in (
        *(init, event_flags, mem_attach_flags, Context, Device, Stream, Event, pagelocked_empty, managed_empty),
        *(memcpy_htod_async, memcpy_dtoh_async, memcpy_dtoh, get_driver_version),
    ):
        setattr(driver, value.__name__, value)
    return {"pycuda": package, "pycuda.driver": driver}
