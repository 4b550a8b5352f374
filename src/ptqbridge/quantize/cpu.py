"""Whether this CPU multiplies 8-bit integers exactly, and so whether weights must keep a reduced range."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

_EXACT = ("avx512_vnni", "avx_vnni", "amx_int8", "avx_vnni_int8")
"""Flags of /proc/cpuinfo (Linux arch/x86/include/asm/cpufeatures.h) whose instructions add into int32 directly."""


@dataclass(frozen=True)
class IntegerUnit:
    """How the CPU multiplies uint8 by int8: ``exact`` is None when it could not be found out; ``why`` is one phrase."""

    exact: bool | None
    why: str

    @property
    def reduce_range(self) -> bool:
        """Whether weights should be scaled so that sums of two products fit int16. Yes, too, when nothing is known."""
        return self.exact is not True


def integer_unit(machine: str | None = None, cpuinfo: Path = Path("/proc/cpuinfo")) -> IntegerUnit:
    """What this machine has, by its name (``x86_64``, ``aarch64``...) and the kernel's list of CPU flags.

    x86 before VNNI multiplies with vpmaddubsw, which adds two products in int16 and saturates (Intel SDM volume 2,
    VPMADDUBSW); VPDPBUSD (VNNI) and AMX add into int32. ARM's kernels widen to int16 or use dot products; both exact.
    """
    machine = (platform.machine() if machine is None else machine).lower()
    if machine in ("aarch64", "arm64"):
        return IntegerUnit(True, "ARM multiplies 8-bit integers exactly")
    if machine not in ("x86_64", "amd64", "i686"):
        return IntegerUnit(None, f"unknown processor {machine or '(no name)'}")
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return IntegerUnit(None, f"{cpuinfo} cannot be read")
    flags: set[str] = set()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "flags":
            flags.update(value.split())
            break
    if not flags:
        return IntegerUnit(None, f"{cpuinfo} lists no flags")
    found = [flag for flag in _EXACT if flag in flags]
    if found:
        return IntegerUnit(True, f"the CPU has {', '.join(found)}")
    return IntegerUnit(False, "the CPU has neither VNNI nor AMX, so sums of two 8-bit products saturate")
