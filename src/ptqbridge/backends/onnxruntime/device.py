"""What this CPU is: cores, instructions for integer arithmetic, memory and clock."""

from __future__ import annotations

import math
import os
import platform
from contextlib import suppress
from pathlib import Path

_CPU = Path("/sys/devices/system/cpu")
_INT8_INSTRUCTIONS = {
    "avx2": "AVX2",
    "avx512bw": "AVX512BW",
    "avx512_vnni": "AVX512-VNNI",
    "avx_vnni": "AVX-VNNI",
    "avx_vnni_int8": "AVX-VNNI-INT8",
    "amx_int8": "AMX-INT8",
    "asimddp": "dot product",
    "i8mm": "I8MM",
    "sve": "SVE",
}
"""Flags of /proc/cpuinfo that ONNX Runtime's integer kernels gain from, and their usual names."""


def usable_cores() -> int:
    """Physical cores this process may use: its CPU affinity, hyperthreads counted once, within its cgroup's quota.

    ONNX Runtime counts physical cores too; a second thread on the same core slows its kernels down.
    """
    allowed = _allowed()
    cores = {_text(_CPU / f"cpu{number}" / "topology" / "thread_siblings_list") or str(number) for number in allowed}
    quota = _quota()
    return max(min(len(cores), math.ceil(quota)) if quota else len(cores), 1)


def cpu_info() -> dict[str, object]:
    """Names and values of ``=== Device Information ===``. What cannot be found out is left out.

    None of the names is one that NVIDIA's log parser reads a number of a GPU from (see `measure.echo.device_lines`).
    """
    import onnxruntime

    facts = cpu_facts()
    frequency = _text(_CPU / "cpu0" / "cpufreq" / "scaling_cur_freq")
    info = {
        "Selected Device": facts.get("model name") or facts.get("Model") or platform.processor() or platform.machine(),
        "Usable Cores": usable_cores(),
        "Instruction Sets for int8": " ".join(instructions(facts)) or "none known",
        "Host Memory": _memory(),
        "Frequency Governor": _text(_CPU / "cpu0" / "cpufreq" / "scaling_governor"),
        "Core Clock": f"{int(frequency) / 1e6:.3g} GHz" if frequency.isdigit() else "",
        "ONNX Runtime": onnxruntime.__version__,
    }
    return {name: value for name, value in info.items() if value != ""}


def cpu_facts() -> dict[str, str]:
    """The first processor's lines of /proc/cpuinfo; empty where there is no such file."""
    first = _text(Path("/proc/cpuinfo")).split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, colon, value in pairs if colon}


def instructions(facts: dict[str, str]) -> list[str]:
    """The instruction sets for int8 among the ``flags`` (``Features`` on Arm) of /proc/cpuinfo."""
    flags = set((facts.get("flags") or facts.get("Features") or "").split())
    return [name for flag, name in _INT8_INSTRUCTIONS.items() if flag in flags]


def _allowed() -> set[int]:
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


def _quota() -> float:
    """CPUs' worth of time the cgroup may use; 0 for no limit."""
    with suppress(ValueError, ZeroDivisionError):
        limit, period = _text(Path("/sys/fs/cgroup/cpu.max")).split()
        return 0.0 if limit == "max" else int(limit) / int(period)
    with suppress(ValueError, ZeroDivisionError):
        first = Path("/sys/fs/cgroup/cpu")
        limit = _text(first / "cpu.cfs_quota_us")
        return max(int(limit) / int(_text(first / "cpu.cfs_period_us")), 0.0)
    return 0.0


def _memory() -> str:
    with suppress(AttributeError, OSError, ValueError):
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.4g} GiB"
    return ""


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
