"""Whether TensorRT and a GPU are here. Nothing of TensorRT is imported: 8.6 crashes when it meets no device."""

from __future__ import annotations

import ctypes
import importlib.util
import sys

from ptqbridge.errors import ToolchainMissing

DRIVER = "libcuda.so.1"
WAY_OUT = (
    'on a machine with an NVIDIA GPU: pip install "ptqbridge[trt]"; here: --target cpu runs the same model, and'
    " explain --target trt shows the plan"
)


def require() -> None:
    """Refuse to go on without the module and a device. Raises ToolchainMissing (exit status 4) with what is missing."""
    missing = [text for text in (missing_module(), missing_device()) if text]
    if missing:
        raise ToolchainMissing(f"target trt: {'; '.join(missing)}", hint=WAY_OUT)


def missing_module() -> str:
    """What is wrong with the Python module ``tensorrt``; "" when it is installed."""
    try:
        found = "tensorrt" in sys.modules or importlib.util.find_spec("tensorrt") is not None
    except (ImportError, ValueError):
        found = False
    return "" if found else "looked for the Python module tensorrt and did not find it"


def missing_device(driver: str = DRIVER) -> str:
    """What keeps CUDA from a device, asked from the driver itself; "" when there is one."""
    try:
        cuda = ctypes.CDLL(driver)
        status = cuda.cuInit(0)
    except (OSError, AttributeError):
        return f"looked for the NVIDIA driver ({driver}) and did not find it"
    if status:
        return f"looked for an NVIDIA GPU: the driver's cuInit failed with error {status}{_meaning(status)}"
    count = ctypes.c_int(0)
    status = cuda.cuDeviceGetCount(ctypes.byref(count))
    if status or count.value < 1:
        return "looked for an NVIDIA GPU: the driver sees none"
    return ""


def _meaning(status: int) -> str:
    """The CUresult values (CUDA driver API, cuda.h) that machines without a usable GPU answer with."""
    known = {3: "not initialized", 35: "driver too old", 100: "no device", 803: "driver and library do not match"}
    return f" ({known[status]})" if status in known else ""
