"""Clocks, temperature, power and throttling of a GPU around a run, through NVML (nvidia-ml-py), where it is installed.

NVML is asked before and after the loop, never in it. Names: NVML API reference (nvml.h); the module is ``pynvml``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

MISSING = "not told: the Python package nvidia-ml-py is not installed"
BAD = {
    0x4: "power cap",
    0x8: "hardware slowdown",
    0x20: "thermal slowdown (software)",
    0x40: "thermal slowdown (hardware)",
    0x80: "power brake (hardware)",
}
"""Reasons for lower clocks that spoil figures (nvmlClocksThrottleReason*, later nvmlClocksEventReason*)."""
VIOLATIONS = {"power": 0, "thermal": 1}
"""NVML_PERF_POLICY_POWER and _THERMAL: nanoseconds since the driver began in which each kept the clocks down."""


class GpuState:
    """Readings of one GPU, found by its PCI address (NVML and CUDA number devices differently)."""

    def __init__(self, pci: str) -> None:
        self.nvml: Any = None
        self.why = ""
        try:
            import pynvml
        except ImportError:
            self.why = MISSING
            return
        try:
            pynvml.nvmlInit()
            self.handle = pynvml.nvmlDeviceGetHandleByPciBusId(pci.encode())
            self.nvml = pynvml
        except pynvml.NVMLError as error:
            self.why = f"not told: {error}"
        self.before: dict[str, Any] = {}

    def start(self) -> None:
        """Before the loop."""
        self.before = self._read()

    def facts(self) -> dict[str, Any]:
        """After the loop: readings before and after, and why clocks were kept down; only ``nvml`` without NVML."""
        if self.nvml is None:
            return {"nvml": self.why}
        after = self._read()
        found = {
            "driver": _text(self._ask(lambda: self.nvml.nvmlSystemGetDriverVersion())),
            "uuid": _text(self._ask(lambda: self.nvml.nvmlDeviceGetUUID(self.handle))),
            "before": {name: value for name, value in self.before.items() if name not in ("reasons", "violations")},
            "after": {name: value for name, value in after.items() if name not in ("reasons", "violations")},
            "throttled": self._throttled(after),
        }
        return found

    def _throttled(self, after: dict[str, Any]) -> list[str]:
        bits = after["reasons"] or 0
        reasons = [text for bit, text in BAD.items() if bits & bit]
        for name in VIOLATIONS:
            earlier, later = self.before.get("violations", {}).get(name), after["violations"].get(name)
            if earlier is not None and later is not None and later > earlier:
                reasons.append(f"{name} kept the clocks down for {(later - earlier) / 1e6:.3g} ms")
        return reasons

    def _read(self) -> dict[str, Any]:
        nvml = self.nvml
        if nvml is None:
            return {}
        handle = self.handle
        # Renamed in version 12 of the package; the older name stays in most.
        reasons = getattr(nvml, "nvmlDeviceGetCurrentClocksEventReasons", None) or getattr(
            nvml, "nvmlDeviceGetCurrentClocksThrottleReasons", None
        )
        power = self._ask(lambda: nvml.nvmlDeviceGetPowerUsage(handle))
        return {
            "sm_mhz": self._ask(lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)),
            "memory_mhz": self._ask(lambda: nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_MEM)),
            "max_sm_mhz": self._ask(lambda: nvml.nvmlDeviceGetMaxClockInfo(handle, nvml.NVML_CLOCK_SM)),
            "celsius": self._ask(lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
            "watts": None if power is None else power / 1000,
            "reasons": self._ask(lambda: reasons(handle)) if reasons else None,
            "violations": {
                name: self._ask(lambda code=code: nvml.nvmlDeviceGetViolationStatus(handle, code).violationTime)  # type: ignore[misc]
                for name, code in VIOLATIONS.items()
            },
        }

    def _ask(self, question: Callable[[], Any]) -> Any:
        """The answer, or None where this GPU has none."""
        try:
            return question()
        except self.nvml.NVMLError:
            return None


def _text(found: Any) -> Any:
    return found.decode() if isinstance(found, bytes) else found


def warnings(facts: dict[str, Any]) -> tuple[str, ...]:
    """What readers of the figures must know."""
    reasons = facts.get("throttled") or []
    return (f"the GPU was throttled ({'; '.join(reasons)}): figures of a cool, idle machine are better",) * bool(
        reasons
    )
