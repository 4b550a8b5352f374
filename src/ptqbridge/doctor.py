"""What is installed here, and what each target still needs, with the command that gets it."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata

from ptqbridge.backends import TARGETS

CORE = ("click", "jinja2", "numpy", "onnx", "onnxruntime", "pyyaml", "rich")
OPTIONAL = {
    "pillow": "images as calibration data",
    "tensorrt": "target trt",
}
_HORIZON_TOOLS = {"hb_mapper": "PTQBRIDGE_HB_MAPPER", "hb_compile": "PTQBRIDGE_HB_COMPILE"}


@dataclass(frozen=True)
class Need:
    """One thing a target wants: found (``detail`` says what and where), or how to get it."""

    what: str
    found: bool
    detail: str
    get: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """The whole account; ``targets`` maps each target to its needs."""

    python: str
    system: str
    packages: Mapping[str, str | None]
    targets: Mapping[str, tuple[Need, ...]] = field(default_factory=dict)

    def ready(self, target: str) -> bool:
        """Whether everything a target needs is there."""
        return all(need.found for need in self.targets[target])


def diagnose() -> Diagnosis:
    """Look at this machine; nothing vendor-made is imported, and of it only hb_compile asked for its version, once."""
    _generation.cache_clear()
    packages = {name: _version(name) for name in (*CORE, *OPTIONAL)}
    needs = {target: _NEEDS[backend](target) for target, backend in TARGETS.items()}
    return Diagnosis(platform.python_version(), f"{platform.system()} {platform.machine()}", packages, needs)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _package(name: str, get: str) -> Need:
    version = _version(name)
    return Need(name, version is not None, version or "not installed", "" if version else get)


def _cpu(target: str) -> tuple[Need, ...]:
    return (_package("onnxruntime", "pip install onnxruntime"), _package("onnx", "pip install onnx"))


def _trt(target: str) -> tuple[Need, ...]:
    get = 'pip install "ptqbridge[trt]"'
    return (_gpu(), _package("tensorrt", get))


def _gpu() -> Need:
    """Whether the CUDA driver sees a device (CUDA driver API, cuInit and cuDeviceGetCount)."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Need("NVIDIA GPU", False, "libcuda.so.1 not found", "install the NVIDIA driver")
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)) or count.value < 1:
        return Need("NVIDIA GPU", False, "the driver sees no device", "check nvidia-smi")
    return Need("NVIDIA GPU", True, f"{count.value} device(s)")


def _horizon(target: str) -> tuple[Need, ...]:
    tool = "hb_compile" if target.startswith("nash") else "hb_mapper"
    variable = _HORIZON_TOOLS[tool]
    named = os.environ.get(variable, "")
    path = shutil.which(named or tool)
    install = "ptqbridge toolchain install hb-mapper VENV, or " if tool == "hb_mapper" else ""
    way = (
        f"{install}run inside Horizon's OpenExplorer container; set {variable} to the program; "
        "build --dryRun works without it"
    )
    detail = f"{path}{_generation() if tool == 'hb_compile' else ''}" if path else ""
    return (
        Need(tool, path is not None, detail or f"not on PATH ({variable} {named or 'not set'})", "" if path else way),
    )


@cache
def _generation() -> str:
    """Which generation of hb_compile it is, whose keys a configuration then follows."""
    from ptqbridge.backends.horizon.probe6 import probe

    found = probe()
    if found is None:
        return " (does not tell its version; --toolchainVersion says what to write for)"
    return f" ({found.version + ', ' if found.version else ''}written for as {found.generation})"


_NEEDS = {"onnxruntime": _cpu, "tensorrt": _trt, "horizon": _horizon}
