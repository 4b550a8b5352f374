"""A stand-in for cuda-python on the stand-in for the driver: the part of its documented interface that ptqbridge uses.

https://nvidia.github.io/cuda-python/cuda-bindings/latest/module/driver.html: every function returns a tuple that begins
with the CUresult; handles are objects that turn into numbers; the arguments are named as in version 13.
"""

from __future__ import annotations

import ctypes
import enum
import types
from typing import Any


def make(library: Any) -> dict[str, Any]:
    """Modules by name; ``library`` is a CudaDouble."""
    driver: Any = types.ModuleType("cuda.bindings.driver")
    bindings: Any = types.ModuleType("cuda.bindings")
    package: Any = types.ModuleType("cuda")
    package.bindings, bindings.driver, bindings.__version__ = bindings, driver, "13.0.1"

    class CUresult(enum.IntEnum):
        CUDA_SUCCESS = 0
        CUDA_ERROR_INVALID_VALUE = 1
        CUDA_ERROR_OUT_OF_MEMORY = 2
        CUDA_ERROR_NO_DEVICE = 100
        CUDA_ERROR_INVALID_DEVICE = 101
        CUDA_ERROR_ILLEGAL_ADDRESS = 700
        CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901

    class CUevent_flags(enum.IntEnum):
        CU_EVENT_DEFAULT = 0
        CU_EVENT_BLOCKING_SYNC = 1

    class CUmemAttach_flags(enum.IntEnum):
        CU_MEM_ATTACH_GLOBAL = 1

    class CUstreamCaptureMode(enum.IntEnum):
        CU_STREAM_CAPTURE_MODE_THREAD_LOCAL = 1

    numbers = (13, 16, 18, 32, 36, 37, 75, 76, 81, 108)
    driver.CUdevice_attribute = enum.IntEnum("CUdevice_attribute", {f"CU_{number}": number for number in numbers})

    class CUstream:
        def __init__(self, value: int = 0) -> None:
            self.made = ctypes.c_void_p(value)

        def __int__(self) -> int:
            return self.made.value or 0

    class CUevent(CUstream):
        pass

    class CUgraph(CUstream):
        pass

    class CUcontext(CUstream):
        pass

    class CUdeviceptr:
        def __init__(self, value: int = 0) -> None:
            self.made = ctypes.c_uint64(value)

        def __int__(self) -> int:
            return self.made.value

    def call(name: str, *arguments: Any) -> CUresult:
        return CUresult(getattr(library, name)(*arguments))

    def given(name: str, kind: Any, *arguments: Any) -> tuple[Any, ...]:
        found = kind()
        status = call(name, ctypes.byref(found.made), *arguments)
        return status, (None if status else found)

    def number(name: str, kind: Any, *arguments: Any) -> tuple[Any, ...]:
        found = kind()
        return call(name, ctypes.byref(found), *arguments), found.value

    def cuInit(Flags: int) -> tuple[Any, ...]:
        return (call("cuInit", Flags),)

    def cuDeviceGetCount() -> tuple[Any, ...]:
        return number("cuDeviceGetCount", ctypes.c_int)

    def cuDeviceGet(ordinal: int) -> tuple[Any, ...]:
        return number("cuDeviceGet", ctypes.c_int, ordinal)

    def cuDevicePrimaryCtxRetain(dev: Any) -> tuple[Any, ...]:
        return given("cuDevicePrimaryCtxRetain", CUcontext, dev)

    def cuDevicePrimaryCtxRelease(dev: Any) -> tuple[Any, ...]:
        return (call("cuDevicePrimaryCtxRelease_v2", dev),)

    def cuCtxPushCurrent(ctx: Any) -> tuple[Any, ...]:
        return (call("cuCtxPushCurrent_v2", ctx.made),)

    def cuCtxPopCurrent() -> tuple[Any, ...]:
        found = CUcontext()
        return call("cuCtxPopCurrent_v2", ctypes.byref(found.made)), found

    def cuStreamCreate(Flags: int) -> tuple[Any, ...]:
        return given("cuStreamCreate", CUstream, Flags)

    def cuStreamDestroy(hStream: Any) -> tuple[Any, ...]:
        return (call("cuStreamDestroy_v2", hStream.made),)

    def cuStreamSynchronize(hStream: Any) -> tuple[Any, ...]:
        return (call("cuStreamSynchronize", hStream.made),)

    def cuStreamWaitEvent(hStream: Any, hEvent: Any, Flags: int) -> tuple[Any, ...]:
        return (call("cuStreamWaitEvent", hStream.made, hEvent.made, Flags),)

    def cuEventCreate(Flags: int) -> tuple[Any, ...]:
        return given("cuEventCreate", CUevent, Flags)

    def cuEventDestroy(hEvent: Any) -> tuple[Any, ...]:
        return (call("cuEventDestroy_v2", hEvent.made),)

    def cuEventRecord(hEvent: Any, hStream: Any) -> tuple[Any, ...]:
        return (call("cuEventRecord", hEvent.made, hStream.made),)

    def cuEventSynchronize(hEvent: Any) -> tuple[Any, ...]:
        return (call("cuEventSynchronize", hEvent.made),)

    def cuEventElapsedTime(hStart: Any, hEnd: Any) -> tuple[Any, ...]:
        return number("cuEventElapsedTime", ctypes.c_float, hStart.made, hEnd.made)

    def cuMemAlloc(bytesize: int) -> tuple[Any, ...]:
        return given("cuMemAlloc_v2", CUdeviceptr, ctypes.c_size_t(bytesize))

    def cuMemFree(dptr: Any) -> tuple[Any, ...]:
        return (call("cuMemFree_v2", dptr.made),)

    def cuMemAllocManaged(bytesize: int, flags: int) -> tuple[Any, ...]:
        return given("cuMemAllocManaged", CUdeviceptr, ctypes.c_size_t(bytesize), flags)

    def cuMemHostAlloc(bytesize: int, Flags: int) -> tuple[Any, ...]:
        return number("cuMemHostAlloc", ctypes.c_void_p, ctypes.c_size_t(bytesize), Flags)

    def cuMemFreeHost(p: int) -> tuple[Any, ...]:
        return (call("cuMemFreeHost", ctypes.c_void_p(p)),)

    def cuMemcpyHtoDAsync(dstDevice: Any, srcHost: int, ByteCount: int, hStream: Any) -> tuple[Any, ...]:
        host, size = ctypes.c_void_p(srcHost), ctypes.c_size_t(ByteCount)
        return (call("cuMemcpyHtoDAsync_v2", dstDevice.made, host, size, hStream.made),)

    def cuMemcpyDtoHAsync(dstHost: int, srcDevice: Any, ByteCount: int, hStream: Any) -> tuple[Any, ...]:
        host, size = ctypes.c_void_p(dstHost), ctypes.c_size_t(ByteCount)
        return (call("cuMemcpyDtoHAsync_v2", host, srcDevice.made, size, hStream.made),)

    def cuMemcpyDtoH(dstHost: int, srcDevice: Any, ByteCount: int) -> tuple[Any, ...]:
        device = ctypes.c_uint64(int(srcDevice))
        return (call("cuMemcpyDtoH_v2", ctypes.c_void_p(dstHost), device, ctypes.c_size_t(ByteCount)),)

    def cuStreamBeginCapture(hStream: Any, mode: CUstreamCaptureMode) -> tuple[Any, ...]:
        assert isinstance(mode, CUstreamCaptureMode)
        return (call("cuStreamBeginCapture_v2", hStream.made, int(mode)),)

    def cuStreamEndCapture(hStream: Any) -> tuple[Any, ...]:
        found = CUgraph()
        return call("cuStreamEndCapture", hStream.made, ctypes.byref(found.made)), found

    def cuGraphInstantiate(hGraph: Any, flags: int) -> tuple[Any, ...]:
        return given("cuGraphInstantiateWithFlags", CUgraph, hGraph.made, flags)

    def cuGraphDestroy(hGraph: Any) -> tuple[Any, ...]:
        return (call("cuGraphDestroy", hGraph.made),)

    def cuGraphLaunch(hGraphExec: Any, hStream: Any) -> tuple[Any, ...]:
        return (call("cuGraphLaunch", hGraphExec.made, hStream.made),)

    def cuGraphExecDestroy(hGraphExec: Any) -> tuple[Any, ...]:
        return (call("cuGraphExecDestroy", hGraphExec.made),)

    def _text(name: str, length: int, dev: Any) -> tuple[Any, ...]:
        found = ctypes.create_string_buffer(length)
        return call(name, found, length, dev), found.raw

    def cuDeviceGetName(length: int, dev: Any) -> tuple[Any, ...]:
        return _text("cuDeviceGetName", length, dev)

    def cuDeviceGetPCIBusId(length: int, dev: Any) -> tuple[Any, ...]:
        return _text("cuDeviceGetPCIBusId", length, dev)

    def cuDeviceTotalMem(dev: Any) -> tuple[Any, ...]:
        return number("cuDeviceTotalMem_v2", ctypes.c_size_t, dev)

    def cuDeviceGetAttribute(attrib: Any, dev: Any) -> tuple[Any, ...]:
        assert isinstance(attrib, driver.CUdevice_attribute)
        return number("cuDeviceGetAttribute", ctypes.c_int, int(attrib), dev)

    def cuDriverGetVersion() -> tuple[Any, ...]:
        return number("cuDriverGetVersion", ctypes.c_int)

    def cuGetErrorName(error: CUresult) -> tuple[Any, ...]:
        found = ctypes.c_char_p()
        return call("cuGetErrorName", int(error), ctypes.byref(found)), found.value

    for name, value in list(locals().items()):
        if name.startswith(("cu", "CU")):
            setattr(driver, name, value)
    return {"cuda": package, "cuda.bindings": bindings, "cuda.bindings.driver": driver}
