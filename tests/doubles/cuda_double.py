"""A stand-in for the NVIDIA driver library at its border (CUDA driver API, cuda.h); every call returns a CUresult."""

from __future__ import annotations

import ctypes
import itertools
import time
from collections.abc import Callable
from typing import Any

ATTRIBUTES = {16: 132, 13: 1_980_000, 36: 2_619_000, 37: 6144, 32: 1, 75: 9, 76: 0, 81: 233_472, 108: 31_457_280, 18: 0}


class CudaDouble:
    """``devices`` there are; ``fail`` maps a call's name to the CUresult it returns. ``calls`` records the names."""

    def __init__(self, devices: int = 1, fail: dict[str, int] | None = None) -> None:
        self.devices, self.fail = devices, fail or {}
        self.calls: list[str] = []
        self.handles = itertools.count(0x1000, 16)
        self.events: dict[int, float] = {}
        self.memory: dict[int, Any] = {}
        self.capturing = False
        self.captured: Callable[[], object] = bool

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cu"):
            raise AttributeError(name)
        action = getattr(type(self), f"_{name}", lambda self, *arguments: 0)

        def call(*arguments: Any) -> int:
            self.calls.append(name)
            return self.fail.get(name, 0) or action(self, *arguments) or 0

        call.__name__ = name
        return call

    def _cuEventCreate(self, event: Any, flags: int) -> None:
        event._obj.value = next(self.handles)

    def _cuEventRecord(self, event: Any, stream: Any) -> None:
        self.events[event.value] = time.perf_counter() * 1e3

    def _cuEventElapsedTime(self, milliseconds: Any, earlier: Any, later: Any) -> None:
        milliseconds._obj.value = self.events[later.value] - self.events[earlier.value]

    def _take(self, pointer: Any, size: Any) -> None:
        memory = ctypes.create_string_buffer(size.value)
        pointer._obj.value = ctypes.addressof(memory)
        self.memory[pointer._obj.value] = memory

    def _cuMemAlloc_v2(self, pointer: Any, size: Any) -> Any:
        return self._take(pointer, size)

    def _cuMemHostAlloc(self, pointer: Any, size: Any, flags: int) -> None:
        self._take(pointer, size)

    def _cuMemAllocManaged(self, pointer: Any, size: Any, flags: int) -> None:
        self._take(pointer, size)

    def _cuMemFree_v2(self, pointer: Any) -> int:
        return 0 if self.memory.pop(pointer.value, None) is not None else 1

    _cuMemFreeHost = _cuMemFree_v2

    def _cuMemcpyHtoDAsync_v2(self, target: Any, source: Any, size: Any, stream: Any) -> None:
        ctypes.memmove(target.value, source.value, size.value)

    def _cuMemcpyDtoHAsync_v2(self, target: Any, source: Any, size: Any, stream: Any) -> None:
        ctypes.memmove(target.value, source.value, size.value)

    def _cuMemcpyDtoH_v2(self, target: Any, source: Any, size: Any) -> None:
        ctypes.memmove(target.value, source.value, size.value)

    def _cuDeviceGetPCIBusId(self, text: Any, length: int, number: Any) -> None:
        text.value = b"0000:17:00.0"

    def _cuStreamBeginCapture_v2(self, stream: Any, mode: int) -> None:
        self.capturing = True

    def _cuStreamEndCapture(self, stream: Any, graph: Any) -> None:
        self.capturing = False
        graph._obj.value = next(self.handles)

    def _cuGraphInstantiateWithFlags(self, made: Any, graph: Any, flags: Any) -> None:
        made._obj.value = next(self.handles)

    def _cuGraphLaunch(self, graph: Any, stream: Any) -> None:
        self.captured()

    def _cuDeviceGetCount(self, number: Any) -> None:
        number._obj.value = self.devices

    def _cuDeviceGet(self, number: Any, index: int) -> None:
        number._obj.value = index

    def _cuDevicePrimaryCtxRetain(self, context: Any, number: Any) -> None:
        context._obj.value = next(self.handles)

    def _cuStreamCreate(self, stream: Any, flags: int) -> None:
        stream._obj.value = next(self.handles)

    def _cuDeviceGetName(self, name: Any, length: int, number: Any) -> None:
        name.value = b"Stand-in GPU"

    def _cuDeviceTotalMem_v2(self, memory: Any, number: Any) -> None:
        memory._obj.value = 1 << 34

    def _cuDeviceGetAttribute(self, value: Any, attribute: int, number: Any) -> None:
        value._obj.value = ATTRIBUTES[attribute]

    def _cuDriverGetVersion(self, value: Any) -> None:
        value._obj.value = 12040

    def _cuGetErrorName(self, status: int, text: Any) -> None:
        names = {2: b"CUDA_ERROR_OUT_OF_MEMORY", 35: b"CUDA_ERROR_INSUFFICIENT_DRIVER", 100: b"CUDA_ERROR_NO_DEVICE"}
        text._obj.value = names.get(status, b"CUDA_ERROR_UNKNOWN")
